//! That one attachment more costs what the first one did, and so does sweeping it. Costs are compared within one run, as machines
//! differ tenfold. The figures are printed: `--nocapture`.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use attach::ruleset::{plan::Plan, sweep};
use kernel::nft::Nft;
use testenv::lab;

use crate::scene::{attachment, masquerade, remove_tables};

fn plan(n: u32) -> Plan {
    let address = Ipv4Addr::from(0x0a58_0000 + n);
    masquerade(&attachment("network", &format!("{n:064}")), "cni0", &[&format!("{address}/16")])
}

/// Medians of adding and of removing one attachment.
fn measure(nft: &mut Nft) -> (Duration, Duration) {
    let mut times: (Vec<_>, Vec<_>) = (0..100)
        .map(|n| {
            let plan = plan(60_000 + n);
            let start = Instant::now();
            plan.add(nft).unwrap();
            let added = start.elapsed();
            let start = Instant::now();
            plan.remove(nft).unwrap();
            (added, start.elapsed())
        })
        .unzip();
    times.0.sort();
    times.1.sort();
    (times.0[50], times.1[50])
}

/// How long it takes to sweep away all that there is.
fn sweep(nft: &mut Nft) -> Duration {
    let start = Instant::now();
    sweep::remove_stale(nft, &"network".parse().unwrap(), []).unwrap();
    start.elapsed()
}

#[test]
fn one_more_costs_the_same() {
    lab::run("one_more_costs_the_same", |_| {
        let mut nft = Nft::open().unwrap();
        plan(1).add(&mut nft).unwrap();
        let empty = measure(&mut nft);
        (2..=1_000).for_each(|n| plan(n).add(&mut nft).unwrap());
        let few = sweep(&mut nft);
        (1..=10_000).for_each(|n| plan(n).add(&mut nft).unwrap());
        let full = measure(&mut nft);
        eprintln!("add, remove with 1 attachment: {empty:?}; with 10,000: {full:?}");
        // Linear work on 10,000 attachments takes milliseconds; the rest is the noise of a busy machine.
        let limit = |empty| empty * 3 + Duration::from_micros(300);
        assert!(full.0 < limit(empty.0) && full.1 < limit(empty.1), "{empty:?} became {full:?}");
        let many = sweep(&mut nft);
        eprintln!("1,000 stale attachments swept in {few:?}, 10,000 in {many:?}");
        // Ten times the work; a hundred times it, were each looked for among all.
        assert!(many < few * 30, "{few:?} became {many:?}");
        remove_tables(&mut nft);
    });
}

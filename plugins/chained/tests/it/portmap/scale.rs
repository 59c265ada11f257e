//! That a port more costs what the first did, for ADD and for packets. The figures are printed: `--nocapture`.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use testenv::{lab::Lab, ns::Ns};

use crate::net::{Container, at, attach, net, portmap, run, tcp};

/// Medians of ADD and DEL of portmap alone, one port.
fn times(lab: &Lab, container: &Container) -> (Duration, Duration) {
    let call = container.call(lab, 1);
    let timed = |verb: &str| {
        let start = Instant::now();
        call.call(verb).ok();
        start.elapsed()
    };
    let (mut adds, mut dels): (Vec<_>, Vec<_>) =
        (0..31).map(|_| (timed("DEL"), timed("ADD"))).map(|(d, a)| (a, d)).unzip();
    adds.sort();
    dels.sort();
    (adds[15], dels[15])
}

/// Requests a second, each a connection of its own, so that each is looked up.
fn requests(from: &Ns, to: SocketAddr) -> f64 {
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < Duration::from_secs(2) {
        from.tcp_talk(to, "x").unwrap();
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

#[test]
fn five_thousand_ports() {
    run("portmap_scale", |lab| {
        let outside = lab.outside("up0");
        lab.rebase();
        let one = attach(lab, &net(&[portmap(&[tcp(8080, 80)])]), "one");
        let server = one.ns.tcp_echo(at("[::]:80"));
        let to = at("198.51.100.1:8080");
        requests(&outside, to);
        let (alone, rate_alone) = (times(lab, &one), requests(&outside, to));
        let many: Vec<_> = (10_000..15_000).map(|port| tcp(port, 80)).collect();
        let many = attach(lab, &net(&[portmap(&many)]), "many");
        let (among, rate_among) = (times(lab, &one), requests(&outside, to));
        eprintln!("ports      ADD        DEL   requests/s");
        eprintln!("    1 {:>9.3?} {:>9.3?} {rate_alone:>9.0}", alone.0, alone.1);
        eprintln!(" 5001 {:>9.3?} {:>9.3?} {rate_among:>9.0}", among.0, among.1);
        many.check(lab);
        drop(server);
        many.detach(lab);
        one.detach(lab);
    });
}

//! The second half of `cargo testenv demo`: three hosts, one network, no daemon but the agent.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use testenv::cluster::{Cluster, Options};
use testenv::fleet::{self, Fleet, Network, SOON};
use testenv::wait;

use super::{lab, say};

/// Shows it, and takes it down whatever came of it. The programs are built.
pub(super) fn run() -> anyhow::Result<()> {
    let logs = fleet::logs(&std::env::temp_dir().join(format!("tenon-demo-{}", std::process::id())))?;
    let cluster = Cluster::up(Options { hosts: HOSTS, mtu: 1500 })?;
    let mut fleet = Fleet { cluster, network: Network::default(), programs: testenv::plugin::built(), logs };
    let shown = show(&fleet);
    fleet.cluster.down()?;
    remove(&fleet.logs)?;
    shown
}

fn show(fleet: &Fleet) -> anyhow::Result<()> {
    let start = Instant::now();
    let _agents = fleet.start_static()?;
    wait::poll(SOON, || fleet.is_complete().then_some(())).context("the hosts do not find each other")?;
    say(&format!("  three hosts with one peers file: complete after {} ms", start.elapsed().as_millis()))?;
    let mut attached = Vec::new();
    for number in 1..=HOSTS {
        attached.push(fleet.add(number, &format!("c{number}"))?);
    }
    // A new link makes the agents look again; the picture is of those at rest.
    wait::poll(SOON, || fleet.is_complete().then_some(())).context("the hosts do not come to rest")?;
    lab::show(fleet)?;
    for (number, ip) in
        (2..).zip(attached.iter().skip(1)).flat_map(|(n, ips)| ips.iter().map(move |ip| (n, ip)))
    {
        let reached = wait::poll(Duration::from_secs(5), || fleet.pings(1, "c1", *ip, None).then_some(()));
        if reached.is_none() {
            bail!("c1 does not reach {ip}");
        }
        let (fits, too_much) = (fleet.pings(1, "c1", *ip, Some(1450)), fleet.pings(1, "c1", *ip, Some(1451)));
        if !fits || too_much {
            bail!("1450 bytes from c1 to {ip}: {fits}, 1451: {too_much}");
        }
        say(&format!("  ping  c1 on h1 → {ip:<18} 1450 bytes pass, 1451 do not"))?;
        fleet.talk((1, "c1"), (number, &format!("c{number}")), *ip, "hello")?;
        say(&format!("  TCP   c1 on h1 → {ip:<18} and UDP: answered, seen with its own address"))?;
    }
    for number in 1..=HOSTS {
        fleet.del(number, &format!("c{number}"))?;
    }
    Ok(())
}

fn remove(logs: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(logs).with_context(|| format!("remove {}", logs.display()))
}

const HOSTS: u8 = 3;

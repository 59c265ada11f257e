//! `cargo testenv lab`: a cluster of hosts with the overlay on it, that stays until it is taken down. Needs root.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::unistd::geteuid;
use testenv::cluster::{Cluster, Options};
use testenv::fleet::{self, Fleet, Network, SOON};
use testenv::wait;

use super::{cargo, say};

/// What `lab up` was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    hosts: u8,
    etcd: u8,
    mtu: u32,
    v6: bool,
    direct: bool,
}

pub(super) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["up", options @ ..] => up(&wanted(options)?)?,
        ["down"] => down()?,
        ["show"] => show(&find()?)?,
        ["heal"] => find()?.cluster.heal()?,
        ["cut", host] => find()?.cluster.cut(number(host)?, None)?,
        ["cut", host, other] => find()?.cluster.cut(number(host)?, Some(number(other)?))?,
        ["run", host, container] => start_container(&find()?, number(host)?, container)?,
        ["exec", host, "--", command @ ..] if !command.is_empty() => return exec(&find()?, host, command),
        _ => bail!("{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(options: &[&str]) -> anyhow::Result<Wanted> {
    let mut wanted = Wanted { hosts: 3, etcd: 0, mtu: 1500, v6: false, direct: false };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let mut value = || options.next().with_context(|| format!("{option} needs a value"));
        match *option {
            "--hosts" => wanted.hosts = value()?.parse().context("--hosts")?,
            "--etcd" => wanted.etcd = value()?.parse().context("--etcd")?,
            "--mtu" => wanted.mtu = value()?.parse().context("--mtu")?,
            "--v6" => wanted.v6 = true,
            "--direct" => wanted.direct = true,
            other => bail!("lab up: unknown option {other:?}\n{USAGE}"),
        }
    }
    ensure!(
        wanted.etcd <= wanted.hosts,
        "--etcd {}: there are {} hosts to run it",
        wanted.etcd,
        wanted.hosts
    );
    Ok(wanted)
}

fn up(wanted: &Wanted) -> anyhow::Result<()> {
    ensure!(!Path::new(STATE).exists(), "there is a lab already: `cargo testenv lab down` ends it");
    ensure!(geteuid().is_root(), "lab up: needs root, for namespaces that stay and processes in them");
    cargo::run(&["build", "--package", "overlay", "--package", "netctl", "--bins"])?;
    let Wanted { hosts, etcd, mtu, v6, direct } = *wanted;
    let logs = fleet::logs(Path::new(LOGS))?;
    let cluster = Cluster::up(Options { hosts, mtu })?;
    let network = Network { v6_underlay: v6, direct };
    let fleet = Fleet { cluster, network, programs: testenv::plugin::built(), logs };
    // Before the long part, so that `down` finds what an impatient person left.
    let text = serde_json::to_string_pretty(&fleet)?;
    fs::write(STATE, text).with_context(|| format!("write {STATE}"))?;
    if let Err(cause) = start(&fleet, etcd) {
        down()?;
        return Err(cause);
    }
    show(&fleet)
}

fn start(fleet: &Fleet, etcd: u8) -> anyhow::Result<()> {
    if etcd == 0 {
        fleet.start_static()?;
    } else {
        fleet.start_etcd(etcd)?;
        for (number, host) in (1..).zip(fleet.cluster.hosts()) {
            host.write("/etc/tenon/overlayd.toml", &fleet.etcd_config(etcd, GRACE))?;
            fleet.start_agent(number)?;
        }
    }
    let complete = wait::poll(SOON, || fleet.is_complete().then_some(()));
    complete.with_context(|| format!("the hosts do not find each other; see {LOGS}"))
}

fn down() -> anyhow::Result<()> {
    find()?.cluster.down()?;
    fs::remove_dir_all(DIR).with_context(|| format!("remove {DIR}"))
}

fn start_container(fleet: &Fleet, host: u8, container: &str) -> anyhow::Result<()> {
    ensure!(
        !fleet.containers(host).iter().any(|there| there == container),
        "h{host} has a container {container}"
    );
    let addresses = fleet.add(host, container)?;
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    say(&format!("{container} on h{host}: {}", addresses.join(" ")))?;
    Ok(())
}

fn find() -> anyhow::Result<Fleet> {
    let text = match fs::read_to_string(STATE) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            bail!("there is no lab: `cargo testenv lab up` makes one")
        }
        text => text.with_context(|| format!("read {STATE}"))?,
    };
    serde_json::from_str(&text).with_context(|| format!("read {STATE}"))
}

/// `place` is a host, or `HOST/CONTAINER`.
fn exec(fleet: &Fleet, place: &str, command: &[&str]) -> anyhow::Result<ExitCode> {
    let (host, container) = place.split_once('/').map_or((place, None), |(host, c)| (host, Some(c)));
    let host = number(host)?;
    let inside = container.map(|container| format!("--net=/run/netns/{container}"));
    if let Some(container) = container {
        let there = fleet.containers(host);
        ensure!(
            there.iter().any(|other| other == container),
            "h{host} has no container {container}; it has {there:?}"
        );
    }
    let enter = inside.iter().flat_map(|net| ["nsenter", net.as_str()]);
    let line =
        fleet.cluster.host(host).command_line(&enter.chain(command.iter().copied()).collect::<Vec<_>>());
    // The suite's own programs are at hand there, after the system's: bridge(8) is another one.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::env::split_paths(&path).chain([fleet.programs.clone()]))?;
    let status = Command::new(&line[0])
        .args(&line[1..])
        .env("PATH", path)
        .status()
        .with_context(|| format!("start {}", command[0]))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Each host with its addresses, subnets, peers and containers, on the one link between them.
pub(super) fn show(fleet: &Fleet) -> anyhow::Result<()> {
    let family = if fleet.network.v6_underlay { "IPv6" } else { "IPv4" };
    say(&format!("═══ one link, MTU {}, tunnels over {family} ═══", fleet.cluster.mtu()))?;
    for (number, host) in (1..).zip(fleet.cluster.hosts()) {
        let address = Cluster::address(number, fleet.network.v6_underlay);
        // What an agent is about to do is done in a moment.
        let rested =
            wait::poll(REST, || fleet.status(number).ok().filter(|status| status["in_sync"] == true));
        let state = match rested.map_or_else(|| fleet.status(number), Ok) {
            Ok(status) => format!(
                "{}, {} peers, MTU {}, directory {}{}",
                standing(&status),
                status["peers"],
                status["mtu"],
                status["directory"].as_str().unwrap_or("?"),
                if status["in_sync"] == true { "" } else { ", not in sync" }
            ),
            Err(_) => "no agent".to_owned(),
        };
        let (down, joint) = match (host.is_alive(), fleet.cluster.is_cut(number)?) {
            (false, _) => (" (gone)", "├─"),
            (true, true) => (" (cut off)", "├╳"),
            (true, false) => ("", "├─"),
        };
        say(&format!("  {joint} {:<4} {address:<12}{down} {state}", host.name))?;
        for container in fleet.containers(number) {
            say(&format!("  │     └─ {container}: {}", addresses(fleet, number, &container)))?;
        }
    }
    for (one, other) in fleet.cluster.cuts()? {
        say(&format!("  ╳ h{one} and h{other} are cut from each other"))?;
    }
    Ok(())
}

fn standing(status: &serde_json::Value) -> String {
    let subnets = status["subnets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let subnets: Vec<_> = subnets.iter().filter_map(|subnet| subnet.as_str()).collect();
    match status["standing"].as_str() {
        Some("owner") => format!("owns {}", subnets.join(" ")),
        Some(other) => format!("{other}: {}", status["why"].as_str().unwrap_or_default()),
        None => "unknown".into(),
    }
}

fn addresses(fleet: &Fleet, number: u8, container: &str) -> String {
    fleet.addresses(number, container).map_or_else(|err| format!("{err:#}"), |list| list.join(" "))
}

/// `h2` or `2`.
fn number(host: &str) -> anyhow::Result<u8> {
    let digits = host.strip_prefix('h').unwrap_or(host);
    let number = digits.parse().with_context(|| format!("{host:?} is no host; they are h1, h2, ..."))?;
    let hosts = find()?.cluster.hosts().len();
    ensure!((1..=hosts).contains(&usize::from(number)), "there are hosts h1 to h{hosts}, and no {host}");
    Ok(number)
}

const USAGE: &str = "usage: cargo testenv lab up [--hosts N] [--etcd MEMBERS] [--v6] [--direct] [--mtu BYTES]
       cargo testenv lab show | heal | down
       cargo testenv lab run HOST CONTAINER
       cargo testenv lab exec HOST[/CONTAINER] -- COMMAND
       cargo testenv lab cut HOST [HOST]";
const DIR: &str = "/run/tenon-lab";
const STATE: &str = "/run/tenon-lab/lab.json";
const LOGS: &str = "/run/tenon-lab/logs";
/// How long a host may take to come to rest before it is shown as it is.
const REST: Duration = Duration::from_millis(500);
/// A lab is new, and nobody owns anything yet.
const GRACE: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let some = wanted(&["--hosts", "5", "--etcd", "3", "--v6", "--mtu", "1400"]).unwrap();
        assert_eq!(some, Wanted { hosts: 5, etcd: 3, mtu: 1400, v6: true, direct: false });
        for bad in [&["--hosts"][..], &["--hosts", "x"], &["--etcd", "4"], &["--what"]] {
            assert!(wanted(bad).is_err(), "{bad:?}");
        }
    }
}

//! `cargo testenv demo`: containers on a bridge network made by the built plugins, in a lab, and what they can reach.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use testenv::lab::{self, Lab};
use testenv::ns::Ns;
use testenv::picture::{Node, Picture};
use testenv::ping::PATIENCE;
use testenv::plugin::PluginCall;

use super::{cargo, demo_overlay, install, root, say};

const CONTAINERS: [&str; 3] = ["c1", "c2", "c3"];
const BRIDGE: &str = "cni0";

/// A container that ADD attached.
struct Attached {
    ns: Ns,
    call: PluginCall,
    /// The host's end of its veth pair.
    port: String,
    addresses: Vec<String>,
    took: Duration,
}

pub(super) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    if let Some(other) = arguments.first() {
        bail!("demo: unexpected argument {other:?}");
    }
    let suite = install::suite();
    cargo::run(&[vec!["build"], suite.iter().map(String::as_str).collect()].concat())?;
    root::ensure_root()?;
    let worked = std::panic::catch_unwind(|| {
        lab::run("demo", |lab| {
            if let Err(cause) = show(lab) {
                panic!("demo: {cause:#}");
            }
        });
        lab::run("demo-overlay", |lab| {
            // mount(8) keeps notes there.
            lab.allow("/run/mount");
            if let Err(cause) = demo_overlay::run() {
                panic!("demo: {cause:#}");
            }
        });
    });
    Ok(if worked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(lab: &Lab) -> anyhow::Result<()> {
    let outside = lab.outside("up0");
    lab.allow_bridge(BRIDGE);
    lab.allow_state("demo");
    lab.allow_tables();
    let attached = CONTAINERS.map(|name| attach(lab, name));
    say(&picture(lab, &outside, &attached)?.draw())?;
    talk_inside(&attached)?;
    talk_outside(&attached[0], &outside)?;
    for Attached { ns, call, .. } in &attached {
        let start = Instant::now();
        call.del().ok();
        say(&format!("  DEL   {:<14} {}", ns.name(), milliseconds(start.elapsed())))?;
    }
    lab.assert_nothing_left();
    say(&format!(
        "  left  nothing: bridge {BRIDGE}, forwarding and empty nft sets stay by design, until the lab ends"
    ))?;
    Ok(())
}

fn config() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "demo", "type": "bridge", "bridge": BRIDGE,
        "isGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": "10.88.0.0/16" }], [{ "subnet": "fd00:88::/64" }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        },
    })
}

fn attach(lab: &Lab, name: &str) -> Attached {
    let ns = lab.netns(name);
    let call = lab.plugin("bridge").config(&config()).container(name).netns(&ns);
    let start = Instant::now();
    let result = call.add().ok();
    let took = start.elapsed();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let port = text(&result["interfaces"][1]["name"]);
    let addresses = result["ips"].as_array().into_iter().flatten().map(|ip| text(&ip["address"])).collect();
    Attached { ns, call, port, addresses, took }
}

/// What the kernel has, not what was asked for.
fn picture(lab: &Lab, outside: &Ns, attached: &[Attached]) -> anyhow::Result<Picture> {
    let host = lab.host();
    let mut lines = vec![format!("up0   {}", host.addresses("up0").join("  "))];
    lines.push(format!("{BRIDGE}  {}  masquerade", host.addresses(BRIDGE).join("  ")));
    let container = |one: &Attached| {
        let mut lines = vec![format!("eth0 = {}", one.port)];
        lines.extend(one.ns.addresses("eth0"));
        lines.push(format!("ADD {}", milliseconds(one.took)));
        Node { title: one.ns.name().to_string(), lines }
    };
    for one in attached {
        let ports = host.links();
        ports
            .get(&one.port)
            .with_context(|| format!("{} has no link {} on the host", one.ns.name(), one.port))?;
    }
    Ok(Picture {
        outside: Node { title: "outside".to_string(), lines: vec![outside.addresses("in0").join("  ")] },
        host: Node { title: "host".to_string(), lines },
        containers: attached.iter().map(container).collect(),
    })
}

/// Each container reaches the next, by both families.
fn talk_inside(attached: &[Attached]) -> anyhow::Result<()> {
    for (number, from) in attached.iter().enumerate() {
        let to = &attached[(number + 1) % attached.len()];
        for address in &to.addresses {
            let address = host_part(address)?;
            let way = format!("{} → {}", from.ns.name(), to.ns.name());
            let took = from.ns.ping(address, PATIENCE).with_context(|| format!("ping {way} {address}"))?;
            report("ping", &way, address, took, "")?;
            let server = to.ns.tcp_echo(SocketAddr::new(address, 0));
            let start = Instant::now();
            from.ns.tcp_talk(server.address(), "hello").with_context(|| format!("TCP {way} {address}"))?;
            report("TCP", &way, address, start.elapsed(), "")?;
        }
    }
    Ok(())
}

/// What is outside knows no way to the containers' addresses: it must see the host's.
fn talk_outside(from: &Attached, outside: &Ns) -> anyhow::Result<()> {
    for (address, host) in [("198.51.100.254", "198.51.100.1"), ("2001:db8:1::254", "2001:db8:1::1")] {
        let (address, host): (IpAddr, IpAddr) = (address.parse()?, host.parse()?);
        let way = format!("{} → outside", from.ns.name());
        let took = from.ns.ping(address, PATIENCE).with_context(|| format!("ping {way} {address}"))?;
        report("ping", &way, address, took, "")?;
        let server = outside.tcp_echo(SocketAddr::new(address, 0));
        let start = Instant::now();
        from.ns.tcp_talk(server.address(), "hello").with_context(|| format!("TCP {way} {address}"))?;
        let took = start.elapsed();
        let seen = server.seen().first().map(SocketAddr::ip);
        if seen != Some(host) {
            bail!("TCP {way} {address}: seen from {seen:?}, not masqueraded to {host}");
        }
        report("TCP", &way, address, took, &format!("seen as {host}"))?;
    }
    Ok(())
}

fn report(what: &str, way: &str, address: IpAddr, took: Duration, note: &str) -> anyhow::Result<()> {
    let line = format!("  {what:<5} {way:<14} {:<18} {}  {note}", address.to_string(), milliseconds(took));
    Ok(say(line.trim_end())?)
}

fn host_part(address: &str) -> anyhow::Result<IpAddr> {
    let (ip, _) = address.split_once('/').with_context(|| format!("{address} has no prefix length"))?;
    ip.parse().with_context(|| format!("{ip} is no address"))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

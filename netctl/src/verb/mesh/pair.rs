//! What came of trying ends against each other, as rows and JSON. Tries nothing.

use serde_json::{Value, json};

use crate::{
    exit::{Exit, Failure},
    knock::Knocked,
    lookup::LookedUp,
    output::{Reply, Table},
    reach::Reached,
    trace::probe::Protocol,
    verb::Context,
};

/// From one end to another.
pub(super) struct Pair {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) reached: Reached,
    pub(super) ports: Vec<Knocked>,
}

/// A name, as an end finds it.
pub(super) struct Named {
    pub(super) from: String,
    pub(super) found: LookedUp,
}

/// Writes them all.
pub(super) fn finish(pairs: &[Pair], names: &[Named], context: &Context) -> Result<Exit, Failure> {
    let items = pairs.iter().map(|pair| pair.json(names)).collect();
    let table = table(pairs, names);
    let script = pairs.iter().map(|pair| format!("{} {}", pair.from, pair.to)).collect();
    context.write(&Reply { kind: "Reachability", items, names: script, table })?;
    Ok(exit(pairs, names))
}

pub(super) fn exit(pairs: &[Pair], names: &[Named]) -> Exit {
    let is_well = |pair: &Pair| pair.reached.rtt_us.is_some() && pair.ports.iter().all(Knocked::is_well);
    let is_found = |named: &Named| named.found.error.is_none();
    if pairs.iter().all(is_well) && names.iter().all(is_found) { Exit::Fine } else { Exit::Finding }
}

impl Pair {
    fn json(&self, names: &[Named]) -> Value {
        let Self { from, to, reached, ports } = self;
        let Reached { to: address, rtt_us, path_mtu, error } = reached;
        let port = |knocked: &Knocked| {
            let Knocked { to: _, port, state, rtt_us, error } = knocked;
            let (protocol, port) = parts(*port);
            json!({"protocol": protocol, "port": port, "state": state.word(), "rtt_us": rtt_us, "error": error})
        };
        let name = |named: &Named| {
            let LookedUp { name, file, server, addresses, rtt_us, error } = &named.found;
            json!({"name": name, "file": file, "server": server, "addresses": addresses, "rtt_us": rtt_us, "error": error})
        };
        json!({"from": from, "to": to, "address": address, "rtt_us": rtt_us, "path_mtu": path_mtu, "error": error,
            "ports": ports.iter().map(port).collect::<Vec<_>>(),
            "names": names.iter().filter(|it| it.from == *from).map(name).collect::<Vec<_>>()})
    }

    /// The echo's, then one for each port.
    fn rows(&self) -> Vec<Vec<String>> {
        let Self { from, to, reached, ports } = self;
        let Reached { to: address, rtt_us, path_mtu, error } = reached;
        let state = if rtt_us.is_some() { "ok" } else { "no answer" };
        let state = error.clone().unwrap_or_else(|| state.to_owned());
        let row = |what: String, rtt_us: Option<u64>, mtu: Option<u32>, state: String| {
            let (rtt, mtu) = (rtt_us.map(milliseconds), mtu.map(|mtu| mtu.to_string()));
            let ends = [from.clone(), to.clone(), address.to_string(), what];
            ends.into_iter().chain([rtt.unwrap_or_default(), mtu.unwrap_or_default(), state]).collect()
        };
        let port = |it: &Knocked| {
            let state = it.error.clone().unwrap_or_else(|| it.state.word().to_owned());
            row(port_name(it.port), it.rtt_us, None, state)
        };
        [row("echo".to_owned(), *rtt_us, *path_mtu, state)]
            .into_iter()
            .chain(ports.iter().map(port))
            .collect()
    }
}

fn table(pairs: &[Pair], names: &[Named]) -> Table {
    let name = |named: &Named| {
        let LookedUp { name, server, addresses, rtt_us, error, .. } = &named.found;
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        vec![
            named.from.clone(),
            name.clone(),
            server.map(|server| server.to_string()).unwrap_or_default(),
            "dns".to_owned(),
            rtt_us.map(milliseconds).unwrap_or_default(),
            String::new(),
            error.clone().unwrap_or_else(|| addresses.join(",")),
        ]
    };
    let rows = pairs.iter().flat_map(Pair::rows).chain(names.iter().map(name)).collect();
    let columns = &["FROM", "TO", "ADDRESS", "BY", "RTT-MS", "PATH-MTU", "STATE"];
    Table { columns, wide: &[], rows }
}

/// `tcp/80`.
pub(super) fn port_name(port: Protocol) -> String {
    let (protocol, port) = parts(port);
    format!("{protocol}/{port}")
}

fn parts(port: Protocol) -> (&'static str, u16) {
    match port {
        Protocol::Icmp => ("icmp", 0),
        Protocol::Tcp(port) => ("tcp", port),
        Protocol::Udp(port) => ("udp", port),
    }
}

pub(super) fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:02}", microseconds / 1000, microseconds % 1000 / 10)
}

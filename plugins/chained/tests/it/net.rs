//! What these tests share: networks as lists of plugins, containers attached by them, labs in which only what stays by
//! design may stay.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
};

use serde_json::{Value, json};
use testenv::{
    echo::EchoServer,
    lab::{self, Lab},
    ns::Ns,
    plugin::{PluginCall, Reply},
};

/// A network: `bridge`, and the plugins that come after it.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    name: String,
    plugins: Vec<Value>,
}

/// `net` on bridge `cni0`, dual stack: 10.1.0.0/16 and fd00:1::/64.
pub(crate) fn net(chained: &[Value]) -> Network {
    bridged("net", 1, &["10.1.0.0/16", "fd00:1::/64"], chained)
}

/// `other` on bridge `cni1`, dual stack: 10.2.0.0/16 and fd00:2::/64.
pub(crate) fn other(chained: &[Value]) -> Network {
    bridged("other", 2, &["10.2.0.0/16", "fd00:2::/64"], chained)
}

/// A network on bridge `cni<number - 1>` with these subnets.
pub(crate) fn bridged(name: &str, number: u8, subnets: &[&str], chained: &[Value]) -> Network {
    let ranges: Vec<_> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    let bridge = json!({
        "type": "bridge", "bridge": format!("cni{}", number - 1), "isDefaultGateway": true, "ipMasq": true,
        "ipam": {"type": "host-local", "ranges": ranges},
    });
    let plugins = [bridge].into_iter().chain(chained.iter().cloned()).collect();
    Network { name: name.to_owned(), plugins }
}

/// A portmap in a list, with these mappings, such as `{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}`.
pub(crate) fn portmap(mappings: &[Value]) -> Value {
    json!({"type": "portmap", "runtimeConfig": {"portMappings": mappings}})
}

/// The same object with other keys over it.
pub(crate) fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// A TCP port.
pub(crate) fn tcp(host_port: u16, container_port: u16) -> Value {
    json!({"hostPort": host_port, "containerPort": container_port, "protocol": "tcp"})
}

/// A UDP port.
pub(crate) fn udp(host_port: u16, container_port: u16) -> Value {
    json!({"hostPort": host_port, "containerPort": container_port, "protocol": "udp"})
}

/// A lab in which may stay what stays by design, and no element, record or lease.
pub(crate) fn run(name: &'static str, body: impl FnOnce(&Lab) + Send + 'static) {
    lab::run(name, |lab| {
        for bridge in ["cni0", "cni1"] {
            lab.allow_bridge(bridge);
        }
        for network in ["net", "other"] {
            lab.allow_state(network);
        }
        lab.allow("file /run/tenon/lock");
        lab.allow_tables();
        body(lab);
        assert_eq!(elements(lab), [""; 0], "elements");
        let records = std::fs::read_dir("/run/tenon/attach").into_iter().flatten();
        assert_eq!(records.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), [""; 0], "records");
    });
}

/// The elements of the suite's sets and maps, as nft prints them.
pub(crate) fn elements(lab: &Lab) -> Vec<String> {
    let lines = lab.host().snapshot().lines;
    lines.into_iter().filter(|line| line.contains(" tenon : ") && line.contains("elements = ")).collect()
}

/// A container on a network.
pub(crate) struct Container {
    pub(crate) ns: Ns,
    network: Network,
    pub(crate) result: Value,
}

/// Makes the namespace `name` and attaches it.
#[track_caller]
pub(crate) fn attach(lab: &Lab, network: &Network, name: &str) -> Container {
    let ns = lab.netns(name);
    match try_attach(lab, network, &ns) {
        Ok(container) => container,
        Err(reply) => panic!("{reply}"),
    }
}

/// Attaches `ns`, as a runtime does: each plugin gets the result of the one before, and where one fails all of them are told
/// to undo.
pub(crate) fn try_attach(lab: &Lab, network: &Network, ns: &Ns) -> Result<Container, Reply> {
    let mut result = Value::Null;
    for plugin in &network.plugins {
        let reply = call(lab, network, plugin, ns, &result).add();
        if !reply.succeeded() {
            Container { ns: ns.clone(), network: network.clone(), result: Value::Null }.detach(lab);
            return Err(reply);
        }
        result = reply.ok();
    }
    Ok(Container { ns: ns.clone(), network: network.clone(), result })
}

fn call(lab: &Lab, network: &Network, plugin: &Value, ns: &Ns, previous: &Value) -> PluginCall {
    let mut config = with(plugin.clone(), json!({"cniVersion": "1.1.0", "name": network.name}));
    if !previous.is_null() {
        config["prevResult"] = previous.clone();
    }
    lab.plugin(plugin["type"].as_str().unwrap()).config(&config).container(ns.name()).netns(ns)
}

impl Container {
    /// DEL by every plugin, last first.
    #[track_caller]
    pub(crate) fn detach(&self, lab: &Lab) {
        for number in (0..self.network.plugins.len()).rev() {
            self.call(lab, number).del().ok();
        }
    }

    /// A call of the plugin with this number in the list, with the result of the whole ADD.
    pub(crate) fn call(&self, lab: &Lab, number: usize) -> PluginCall {
        call(lab, &self.network, &self.network.plugins[number], &self.ns, &self.result)
    }

    /// One of its addresses, without its prefix length.
    #[track_caller]
    pub(crate) fn ip(&self, index: usize) -> IpAddr {
        let address = self.result["ips"][index]["address"].as_str().unwrap();
        address.split('/').next().unwrap().parse().unwrap()
    }

    #[track_caller]
    pub(crate) fn check(&self, lab: &Lab) {
        for number in 0..self.network.plugins.len() {
            self.call(lab, number).check().ok();
        }
    }
}

/// `text` as an address with a port.
#[track_caller]
pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The words of an error.
#[track_caller]
pub(crate) fn message(error: &Value) -> &str {
    error["msg"].as_str().unwrap()
}

/// An SCTP port.
pub(crate) fn sctp(host_port: u16, container_port: u16) -> Value {
    json!({"hostPort": host_port, "containerPort": container_port, "protocol": "sctp"})
}

/// One number of each protocol, to port 80.
pub(crate) fn of_each(host_port: u16) -> [Value; 3] {
    [tcp(host_port, 80), udp(host_port, 80), sctp(host_port, 80)]
}

/// Servers of the three protocols at port 80.
pub(crate) fn serve(ns: &Ns) -> [EchoServer; 3] {
    [ns.tcp_echo(at("[::]:80")), ns.udp_echo(at("[::]:80")), ns.sctp_answer(80)]
}

/// Whether answers come back, by all three protocols or by none.
#[track_caller]
pub(crate) fn talks(from: &Ns, to: impl std::fmt::Display) -> bool {
    let to = at(&to.to_string());
    let found = thread::scope(|scope| {
        let tcp = scope.spawn(|| from.tcp_talk(to, "tcp").is_ok());
        let udp = scope.spawn(|| from.udp_talk(to, "udp").is_ok());
        [from.sctp_talk(to).is_ok(), tcp.join().unwrap(), udp.join().unwrap()]
    });
    let differ = || format!("SCTP, TCP, UDP from {} to {to}: {found:?}", from.name());
    assert!(found.iter().all(|one| *one == found[0]), "{}", differ());
    found[0]
}

/// Who talks to which address, and whether answers come back.
pub(crate) type Cell<'a> = (&'a Ns, SocketAddr, bool);

/// Holds all cells at once: that nothing comes back is only known by waiting for it.
#[track_caller]
pub(crate) fn assert_cells(when: &str, cells: &[Cell<'_>]) {
    let wrong: Vec<_> = thread::scope(|scope| {
        let talking: Vec<_> =
            cells.iter().map(|(from, to, _)| scope.spawn(move || talks(from, to))).collect();
        let found = talking.into_iter().map(|thread| thread.join().unwrap()).zip(cells);
        found.filter(|(found, (_, _, expected))| found != expected).map(|(_, cell)| describe(*cell)).collect()
    });
    assert!(wrong.is_empty(), "{when}: {}", wrong.join(", "));
}

fn describe((from, to, expected): Cell<'_>) -> String {
    let words = if expected { "does not reach" } else { "reaches" };
    format!("{} {words} {to}", from.name())
}

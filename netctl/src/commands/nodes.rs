//! The commands of the verbs that send and watch packets, on the nodes where they run.

use std::net::IpAddr;

use super::{inside, on};
use crate::{
    agent::{node::Peer, nodes::Found, place::Place},
    trace::probe::Protocol,
};

/// Runs a command at a place, through the peer's own way where it is on a peer. Peers come after this node.
pub fn at(peers: &[Peer], node: usize, place: &Place, command: &str) -> String {
    on(node.checked_sub(1).and_then(|nth| peers.get(nth)), &inside(place, command))
}

/// Where a packet would go, and one that goes.
pub fn trace(peers: &[Peer], source: &Found, target: IpAddr, protocol: Protocol) -> Vec<String> {
    let probe = match protocol {
        Protocol::Icmp => format!("ping -c 3 -W 1 {target}"),
        Protocol::Tcp(port) => format!("nc -z -v -w 1 {target} {port}"),
        Protocol::Udp(port) => format!("nc -z -v -u -w 1 {target} {port}"),
    };
    let commands = [format!("ip route get {target}"), "ip neigh".to_owned(), probe];
    commands.map(|command| at(peers, source.node, &source.place, &command)).to_vec()
}

/// Where a packet would go.
pub fn explain(peers: &[Peer], source: &Found, target: IpAddr) -> Vec<String> {
    let route = format!("ip route get {target} fibmatch");
    let commands = [&route, "ip rule", "ip neigh", "bridge fdb show", "nft list ruleset"];
    commands.map(|command| at(peers, source.node, &source.place, command)).to_vec()
}

/// That watch a node while something goes wrong on it, for ten seconds.
pub fn watch(peers: &[Peer], node: usize, own: &Place) -> Vec<String> {
    ["perf trace -a -e skb:kfree_skb -- sleep 10", "nstat -a -s"].map(|it| at(peers, node, own, it)).to_vec()
}

/// Whether it answers, and the largest packet that gets there.
pub fn probe(
    peers: &[Peer],
    node: usize,
    from: &Place,
    target: IpAddr,
    path_mtu: Option<u32>,
) -> Vec<String> {
    let headers = if target.is_ipv4() { 28 } else { 48 };
    let size = path_mtu.and_then(|mtu| mtu.checked_sub(headers));
    let whole = size.map(|size| format!("ping -c 1 -W 1 -M do -s {size} {target}"));
    let commands = [format!("ping -c 1 -W 1 {target}")].into_iter().chain(whole);
    commands.map(|command| at(peers, node, from, &command)).collect()
}

/// Whether ports answer.
pub fn knock(peers: &[Peer], node: usize, from: &Place, target: IpAddr, ports: &[Protocol]) -> Vec<String> {
    let command = |port: &Protocol| match port {
        Protocol::Icmp => format!("ping -c 1 -W 1 {target}"),
        Protocol::Tcp(port) => format!("nc -z -v -w 1 {target} {port}"),
        Protocol::Udp(port) => format!("nc -z -v -u -w 1 {target} {port}"),
    };
    ports.iter().map(|port| at(peers, node, from, &command(port))).collect()
}

/// What addresses names have.
pub fn look_up(peers: &[Peer], node: usize, from: &Place, names: &[String]) -> Vec<String> {
    names.iter().map(|name| at(peers, node, from, &format!("getent ahosts {name}"))).collect()
}

/// Everything that passes a namespace, in tcpdump's words.
pub fn capture(peers: &[Peer], node: usize, place: &Place, filter: &str) -> String {
    let quoted = if filter.is_empty() { Vec::new() } else { vec![filter.to_owned()] };
    let words = [inside(place, "tcpdump -n -i any"), quoted].concat();
    on(node.checked_sub(1).and_then(|nth| peers.get(nth)), &words)
}

/// A server at one end, and a client at the other for a second.
pub fn bench(peers: &[Peer], source: &Found, destination: &Found, target: IpAddr) -> Vec<String> {
    vec![
        at(peers, destination.node, &destination.place, "iperf3 --server --daemon --one-off"),
        at(peers, source.node, &source.place, &format!("iperf3 --client {target} --time 1")),
    ]
}

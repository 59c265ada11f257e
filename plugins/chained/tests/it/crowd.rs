//! Sixty-four at once on one network, by the whole chain: each plugin's own state, and what the network's attachments share.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    thread,
};

use serde_json::{Value, json};
use testenv::{lab::Lab, ns::Ns};

use crate::net::{Cell, Container, assert_cells, elements, net, of_each, portmap, run, serve, try_attach};

const COUNT: u16 = 64;

/// Each publishes a port of its own.
fn chain(number: u16) -> [Value; 3] {
    let port = host_port(number);
    [
        portmap(&of_each(port)),
        json!({"type": "firewall", "ingressPolicy": "same-bridge"}),
        json!({"type": "bandwidth", "ingressRate": 1_000_000_000, "egressRate": 1_000_000_000}),
    ]
}

fn host_port(number: u16) -> u16 {
    10_000 + number
}

/// Runs `each` for all of them on as many threads.
fn at_once<A: Send, B: Send>(all: Vec<A>, each: impl Fn(A) -> B + Sync) -> Vec<B> {
    thread::scope(|scope| {
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(|| each(one))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn attach_all(lab: &Lab, containers: Vec<(u16, Ns)>) -> Vec<(u16, Container)> {
    at_once(containers, |(number, ns)| match try_attach(lab, &net(&chain(number)), &ns) {
        Ok(container) => (number, container),
        Err(reply) => panic!("{reply}"),
    })
}

/// Bytes from outside by every eighth one's port, and none past the firewall.
fn sample(outside: &Ns, containers: &[(u16, Container)]) {
    let host = IpAddr::from([198, 51, 100, 1]);
    let some: Vec<_> = containers.iter().step_by(8).collect();
    let servers: Vec<_> = some.iter().map(|(_, container)| serve(&container.ns)).collect();
    let cells = |(number, container): &&(u16, Container)| -> [Cell<'_>; 2] {
        let port = SocketAddr::new(host, host_port(*number));
        [(outside, port, true), (outside, SocketAddr::new(container.ip(0), 80), false)]
    };
    assert_cells("sample", some.iter().map(cells).collect::<Vec<_>>().as_flattened());
    for server in servers.iter().flatten() {
        assert_eq!(server.seen().len(), 1, "each to its own");
    }
}

fn accepts(lab: &Lab) -> usize {
    lab.exec(&["iptables-nft-save", "-t", "filter"]).ok().matches("\"tenon net\"").count()
}

#[test]
fn sixty_four_at_once() {
    run("crowd", |lab| {
        lab.needs_program("iptables-nft", "iptables");
        let outside = lab.outside("up0");
        outside.add_route("10.1.0.0/16", IpAddr::from([198, 51, 100, 1]));
        // As with Docker or ufw, so that the network needs what its attachments share.
        lab.exec(&["iptables-nft", "-P", "FORWARD", "DROP"]).ok();
        let ns = |number| (number, lab.netns(&format!("c{number}")));
        let (even, odd): (Vec<_>, Vec<_>) = (0..COUNT).map(ns).partition(|(number, _)| number % 2 == 0);
        lab.rebase();
        let all = attach_all(lab, [even.clone(), odd].concat());
        let addresses: BTreeSet<_> =
            all.iter().flat_map(|(_, container)| [container.ip(0), container.ip(1)]).collect();
        assert_eq!(addresses.len(), 2 * usize::from(COUNT));
        at_once(all.iter().collect(), |(_, container)| container.check(lab));
        sample(&outside, &all);
        assert_eq!(accepts(lab), 2);

        // Half of them come back while the other half goes, the last of the network's among them.
        let (staying, going) = all.split_at(even.len());
        at_once(staying.iter().collect(), |(_, container)| container.detach(lab));
        let coming = thread::scope(|scope| {
            let going =
                scope.spawn(|| at_once(going.iter().collect(), |(_, container)| container.detach(lab)));
            let coming = attach_all(lab, even);
            going.join().unwrap();
            coming
        });
        at_once(coming.iter().collect(), |(_, container)| container.check(lab));
        sample(&outside, &coming);
        assert_eq!(accepts(lab), 2);
        at_once(coming.iter().collect(), |(_, container)| container.detach(lab));
        assert_eq!(accepts(lab), 0);
        assert_eq!(elements(lab), [""; 0]);
        let leases = fs::read_dir("/var/lib/cni/networks/net").unwrap();
        let leases = leases.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(leases.filter(|name| name.contains(['.', ':']) && !name.contains("last")).count(), 0);
    });
}

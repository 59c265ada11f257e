//! Bytes over whole SCTP associations through published ports. Needs a kernel with SCTP sockets: `cargo testenv vm test` has some.

use std::thread;

use serde_json::json;
use testenv::{lab::Lab, ns::Ns};

use super::traffic::{V4, V4_MORE, V6, V6_MORE, two_addresses};
use crate::net::{at, attach, net, portmap, run, sctp, with};

/// A kernel that has the protocol as a module loads it now, and what it brings along is no leftover.
fn needs_sctp(lab: &Lab) {
    if let Some(cause) = lab.host().lacks_sctp() {
        lab.skip(&format!(
            "this kernel has no SCTP sockets ({cause}): `cargo testenv vm test` runs it on others"
        ));
    }
    lab.rebase();
}

/// Who says something to which address of the host, and whether it comes back. All at once.
#[track_caller]
fn assert_said(when: &str, cells: &[(&Ns, &str, bool)]) {
    let wrong: Vec<_> = thread::scope(|scope| {
        let say = |(from, to, expected)| {
            let from: &Ns = from;
            let said = scope.spawn(move || from.sctp_say(0, at(to), "by whole associations"));
            (from.name(), to, expected, said)
        };
        let talks: Vec<_> = cells.iter().copied().map(say).collect();
        let ended =
            talks.into_iter().map(|(from, to, expected, said)| (from, to, expected, said.join().unwrap()));
        ended
            .filter(|(_, _, expected, said)| said.is_ok() != *expected)
            .map(|(from, to, _, said)| format!("{from} to {to}: {said:?}"))
            .collect()
    });
    assert!(wrong.is_empty(), "{when}: {}", wrong.join(", "));
}

#[test]
fn associations_from_everywhere() {
    run("portmap_sctp", |lab| {
        needs_sctp(lab);
        let outside = two_addresses(lab);
        let one = attach(lab, &net(&[portmap(&[sctp(8080, 80)])]), "one");
        let sibling = attach(lab, &net(&[]), "sibling");
        let server = one.ns.sctp_echo(80);
        let host = lab.host();
        assert_said(
            "published at every address",
            &[
                (&outside, V4, true),
                (&outside, V6, true),
                (&outside, V4_MORE, true),
                (&outside, V6_MORE, true),
                (host, V4, true),
                (host, V6, true),
                (host, "127.0.0.1:8080", true),
                (host, "[::1]:8080", false),
                (&one.ns, V4, true),
                (&one.ns, V6, true),
                (&sibling.ns, V4, true),
                (&sibling.ns, V6, true),
            ],
        );
        drop(server);
        one.detach(lab);
        assert_said("published no more", &[(&outside, V4, false), (&outside, V6, false)]);

        let of = |host: &str| with(sctp(8080, 80), json!({"hostIP": host}));
        let two = attach(lab, &net(&[portmap(&[of("198.51.100.1"), of("2001:db8:1::1")])]), "two");
        let server = two.ns.sctp_echo(80);
        assert_said(
            "published at one address of each kind",
            &[
                (&outside, V4, true),
                (&outside, V6, true),
                (&outside, V4_MORE, false),
                (&outside, V6_MORE, false),
                (host, V4, true),
                (host, V4_MORE, false),
                (&sibling.ns, V6, true),
                (&sibling.ns, V6_MORE, false),
            ],
        );
        drop(server);
        two.detach(lab);
        sibling.detach(lab);
    });
}

/// Of one client, from one port: for who tracks it, it is the same flow.
#[test]
fn an_association_reaches_the_new_owner_of_the_port() {
    run("portmap_sctp_owner", |lab| {
        needs_sctp(lab);
        let outside = two_addresses(lab);
        let network = net(&[portmap(&[sctp(8080, 80)])]);
        for (to, from) in [(V4, 4000), (V6, 4001)] {
            for name in ["first", "second"] {
                let owner = attach(lab, &network, name);
                let server = owner.ns.sctp_echo(80);
                outside
                    .sctp_say(from, at(to), name)
                    .unwrap_or_else(|cause| panic!("{to}, the {name} owner: {cause}"));
                assert_eq!(server.seen().len(), 1, "{to}, the {name} owner");
                owner.detach(lab);
                drop(server);
                lab.remove_netns(owner.ns);
            }
        }
    });
}

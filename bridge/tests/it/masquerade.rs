//! `ipMasq` and `ipMasqBackend`.

use serde_json::json;

use crate::net::{attach, call, dual_stack, elements, message, other_network, run};

#[test]
fn hides_the_container_outside_and_nowhere_else() {
    run("masquerade", |lab| {
        let outside = lab.outside("up0");
        lab.rebase();
        for backend in [json!(null), json!("iptables"), json!("nftables"), json!("")] {
            let config = dual_stack(json!({"ipMasq": true, "ipMasqBackend": backend}));
            let (one, two) = (attach(lab, &config, "one"), attach(lab, &config, "two"));
            for (server, hidden) in
                [("198.51.100.254:8080", "198.51.100.1"), ("[2001:db8:1::254]:8080", "2001:db8:1::1")]
            {
                let echo = outside.tcp_echo(server.parse().unwrap());
                one.ns.tcp_talk(echo.address(), "hello").unwrap();
                assert_eq!(echo.seen()[0].ip().to_string(), hidden);
            }
            let echo = two.ns.tcp_echo((two.ip(0), 8080).into());
            one.ns.tcp_talk(echo.address(), "hello").unwrap();
            assert_eq!(echo.seen()[0].ip(), one.ip(0));
            for container in [one, two] {
                container.check().ok();
                container.detach();
                lab.remove_netns(container.ns);
            }
            assert!(elements(lab).is_empty());
        }
    });
}

#[test]
fn without_it_the_container_keeps_its_address() {
    run("no_masquerade", |lab| {
        let outside = lab.outside("up0");
        outside.add_route("10.1.0.0/16", "198.51.100.1".parse().unwrap());
        lab.rebase();
        let one = attach(lab, &dual_stack(json!({})), "one");
        let echo = outside.tcp_echo("198.51.100.254:8080".parse().unwrap());
        one.ns.tcp_talk(echo.address(), "hello").unwrap();
        assert_eq!(echo.seen()[0].ip(), one.ip(0));
        one.detach();
    });
}

#[test]
fn an_unknown_backend_is_refused() {
    run("backend", |lab| {
        let ns = lab.netns("one");
        let config = dual_stack(json!({"ipMasq": true, "ipMasqBackend": "ebpf"}));
        let error = call(lab, &config, &ns).add().err(7);
        assert_eq!(
            message(&error),
            "bridge: ipMasqBackend: \"ebpf\": is neither \"iptables\" nor \"nftables\""
        );
        assert!(!lab.host().has_link("cni0"));
    });
}

/// The reference hashes network + container without a separator: `net` + `1a` and `net1` + `a` share a chain there.
#[test]
fn attachments_of_run_together_names_do_not_share_rules() {
    run("run_together", |lab| {
        lab.allow_state("net1");
        let one = attach(lab, &dual_stack(json!({"ipMasq": true})), "1a");
        let two = other_network(json!({"name": "net1", "ipMasq": true}));
        let two = attach(lab, &two, "a");
        two.detach();
        one.check().ok();
        one.detach();
    });
}

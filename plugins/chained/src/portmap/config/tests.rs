use cni::request::{Command, Request};
use serde_json::{Value, json};

use super::{Back, Config, Host};

fn config(more: Value) -> Result<Config, String> {
    let mut config = json!({"cniVersion": "1.1.0", "name": "n", "type": "portmap"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let request = Request::parse(Command::Add, config.to_string().into_bytes(), |_| String::new()).unwrap();
    Config::new(&request).map_err(|err| err.msg)
}

fn mapping(mapping: Value) -> Value {
    json!({"runtimeConfig": {"portMappings": [mapping]}})
}

#[track_caller]
fn refused(more: Value, expected: &str) {
    assert_eq!(config(more).unwrap_err(), expected);
}

#[test]
fn answers_are_led_back() {
    for (more, back) in [
        (json!({}), Back::Local),
        (json!({"snat": null, "masqAll": false}), Back::Local),
        (json!({"snat": true, "masqAll": true}), Back::Everybody),
        (json!({"snat": false}), Back::Nobody),
        (json!({"snat": false, "masqAll": true}), Back::Nobody),
    ] {
        assert_eq!(config(more).unwrap().back, back);
    }
}

#[test]
fn what_the_reference_takes_is_taken() {
    for more in [
        json!({"backend": "iptables", "markMasqBit": 13}),
        json!({"backend": "nftables"}),
        json!({"externalSetMarkChain": "KUBE-MARK-MASQ"}),
        json!({"runtimeConfig": {"portMappings": null}}),
        json!({"runtimeConfig": {}, "conditionsV4": null}),
    ] {
        assert!(config(more).unwrap().mappings.is_empty());
    }
}

/// CRI's client writes the keys of its own structure: HostPort, ContainerPort, Protocol, HostIP.
#[test]
fn keys_and_protocols_in_any_case() {
    let port = json!({"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": "10.0.0.1"});
    let config = config(mapping(port)).unwrap();
    let port = &config.mappings[0];
    assert_eq!((port.protocol, port.host_port, port.container_port), (6, 8080, 80));
    assert_eq!(port.host, Host::One("10.0.0.1".parse().unwrap()));
}

#[test]
fn the_same_mapping_twice_is_one_and_two_destinations_are_none() {
    let twice = json!({"runtimeConfig": {"portMappings": [
        {"hostPort": 1, "containerPort": 2}, {"hostPort": 1, "containerPort": 3, "protocol": "tcp"},
    ]}});
    refused(twice, "runtimeConfig.portMappings[1].hostPort: 1: is published to container port 2 already");
}

/// Bug of the reference: with its nftables backend a hostIP that is none makes no rule and no error, and 99999 is left to
/// nft to find.
#[test]
fn bug_nonsense_in_a_mapping_is_not_passed_over() {
    let path = "runtimeConfig.portMappings[0].";
    for (port, expected) in [
        (json!({"containerPort": 80}), "hostPort: 0: is not a port, 1 to 65535"),
        (json!({"hostPort": 99999, "containerPort": 80}), "hostPort: 99999: is not a port, 1 to 65535"),
        (json!({"hostPort": 80}), "containerPort: 0: is not a port, 1 to 65535"),
        (json!({"hostPort": 80, "containerPort": -1}), "containerPort: -1: is not a port, 1 to 65535"),
        (
            json!({"hostPort": 80, "containerPort": 80, "hostIP": "garbage"}),
            "hostIP: \"garbage\": is not an IP address",
        ),
        (
            json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"}),
            "protocol: \"icmp\": is none of tcp, udp, sctp",
        ),
        (
            json!({"hostPort": 80, "containerPort": 80, "hostIP": "::1"}),
            "hostIP: \"::1\": can't be published: the kernel lets nothing out that was sent from ::1",
        ),
    ] {
        refused(mapping(port), &format!("{path}{expected}"));
    }
}

#[test]
fn what_the_reference_refuses_is_refused() {
    refused(json!({"backend": "ebpf"}), "backend: \"ebpf\": is neither \"iptables\" nor \"nftables\"");
    refused(json!({"markMasqBit": 32}), "markMasqBit: 32: is not between 0 and 31");
    refused(
        json!({"markMasqBit": 5, "externalSetMarkChain": "X"}),
        "markMasqBit: 5: can't be with externalSetMarkChain",
    );
}

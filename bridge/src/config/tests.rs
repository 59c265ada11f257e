use serde_json::json;

use super::*;

fn parse(conf: Value) -> Result<Config, String> {
    let conf = cni::decode::decode(&conf).map_err(|err| err.msg)?;
    Config::from_parts(conf, None).map_err(|err| err.msg)
}

#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(conf: Value, part: impl Fn(Config) -> T, expected: T) {
    assert_eq!(parse(conf).map(part), Ok(expected));
}

#[track_caller]
fn check_error(conf: Value, expected: &str) {
    assert_eq!(parse(conf), Err(expected.to_owned()));
}

#[test]
fn defaults_are_the_references() {
    check(
        json!({}),
        |config| config,
        Config {
            bridge: "cni0".parse().unwrap(),
            gateway: Gateway::None,
            force_address: false,
            masquerade: false,
            mtu: mtu::Wish::Kernel,
            hairpin: false,
            promiscuous: None,
            vlans: Vlans::None,
            check_mac_spoofing: false,
            detect_duplicates: false,
            container_interface_up: true,
            isolated: false,
            layer3: false,
            dns: Dns::default(),
            mac: None,
        },
    );
}

#[test]
fn gateways_and_masquerade() {
    check(json!({"isGateway": true}), |c| c.gateway, Gateway::Router);
    check(json!({"isDefaultGateway": true}), |c| c.gateway, Gateway::DefaultRouter);
    for backend in ["", "iptables", "nftables"] {
        check(json!({"ipMasq": true, "ipMasqBackend": backend}), |c| c.masquerade, true);
    }
    check_error(
        json!({"ipMasqBackend": "ebpf"}),
        "ipMasqBackend: \"ebpf\": is neither \"iptables\" nor \"nftables\"",
    );
    check(json!({"ipam": {"type": "host-local"}}), |c| c.layer3, true);
    check(json!({"ipam": {"type": ""}}), |c| c.layer3, false);
    check(json!({"ipam": {}}), |c| c.layer3, false);
}

#[test]
fn what_excludes_each_other() {
    check_error(
        json!({"hairpinMode": true, "promiscMode": true}),
        "hairpinMode: true: can't be set together with promiscMode",
    );
    check_error(
        json!({"disableContainerInterface": true, "ipam": {"type": "host-local"}}),
        "disableContainerInterface: true: an interface that stays down can't have the addresses of ipam",
    );
    check_error(
        json!({"vlan": 5, "vlanTrunk": [{"id": 6}]}),
        "vlan: 5: can't be set together with vlanTrunk",
    );
}

#[test]
fn mtus() {
    check(json!({"mtu": 0}), |c| c.mtu, mtu::Wish::Kernel);
    check(json!({"mtu": null}), |c| c.mtu, mtu::Wish::Kernel);
    check(json!({"mtu": 1400}), |c| c.mtu, mtu::Wish::Bytes(1400.try_into().unwrap()));
    check(json!({"mtu": "auto"}), |c| c.mtu, mtu::Wish::Auto);
    for bad in [json!(-1), json!(67), json!(65536), json!(1.5), json!("1400"), json!(true)] {
        check_error(
            json!({"mtu": bad}),
            &format!("mtu: {bad}: is neither \"auto\" nor 0 nor a number of bytes from 68 to 65535"),
        );
    }
}

#[test]
fn vlan_ids() {
    let access = |vlan| Vlans::Access { vlan, keep_default: false };
    check(json!({"vlan": 0}), |c| c.vlans, Vlans::None);
    check(json!({"vlan": 1}), |c| c.vlans, access(1));
    check(json!({"vlan": 4094}), |c| c.vlans, access(4094));
    check(
        json!({"vlan": 100, "preserveDefaultVlan": true}),
        |c| c.vlans,
        Vlans::Access { vlan: 100, keep_default: true },
    );
    for bad in [-1, 4095, 70000] {
        check_error(json!({"vlan": bad}), &format!("vlan: {bad}: is not a VLAN ID from 0 to 4094"));
    }
}

#[test]
fn vlan_trunks() {
    let trunk = |vlans: &[u16]| Vlans::Trunk { vlans: vlans.iter().copied().collect(), keep_default: false };
    check(json!({"vlanTrunk": []}), |c| c.vlans, Vlans::None);
    check(json!({"vlanTrunk": [{}]}), |c| c.vlans, Vlans::None);
    check(
        json!({"vlanTrunk": [{"minID": 200, "maxID": 202}, {"id": 101}, {"id": 201}]}),
        |c| c.vlans,
        trunk(&[101, 200, 201, 202]),
    );
    check(json!({"vlanTrunk": [{"minID": 7, "maxID": 7, "id": 9}]}), |c| c.vlans, trunk(&[7, 9]));
    check_error(json!({"vlanTrunk": [{"id": 0}]}), "vlanTrunk[0].id: 0: is not a VLAN ID from 1 to 4094");
    check_error(
        json!({"vlanTrunk": [{"id": 4095}]}),
        "vlanTrunk[0].id: 4095: is not a VLAN ID from 1 to 4094",
    );
    check_error(
        json!({"vlanTrunk": [{"id": 1}, {"minID": 9}]}),
        "vlanTrunk[1].minID: 9: needs maxID beside it",
    );
    check_error(json!({"vlanTrunk": [{"maxID": 9}]}), "vlanTrunk[0].maxID: 9: needs minID beside it");
    check_error(
        json!({"vlanTrunk": [{"minID": 9, "maxID": 8}]}),
        "vlanTrunk[0].maxID: 8: is less than minID 9",
    );
}

#[test]
fn bridge_names() {
    check_error(json!({"bridge": ""}), "bridge: \"\": is empty");
    check_error(json!({"bridge": "a/b"}), "bridge: \"a/b\": must not contain '/', ':' or white space");
    check_error(json!({"bridge": 5}), "bridge: 5: invalid type: integer `5`, expected a string");
}

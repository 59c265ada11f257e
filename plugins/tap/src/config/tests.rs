use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn parse(conf: Value, environment_mac: Option<&str>) -> Result<Config, String> {
    let conf = cni::decode::decode(&conf).map_err(|err| err.msg)?;
    Config::from_parts(conf, environment_mac).map_err(|err| err.msg)
}

#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(conf: Value, part: impl Fn(Config) -> T, expected: T) {
    assert_eq!(parse(conf, None).map(part), Ok(expected));
}

#[track_caller]
fn check_error(conf: Value, expected: &str) {
    assert_eq!(parse(conf, None), Err(expected.to_owned()));
}

#[test]
fn defaults_are_the_references() {
    let nothing_said = Config {
        mac: None,
        mtu: None,
        tap: Tap { multi_queue: false, owner: None, group: None },
        label: None,
        bridge: None,
        dns: Dns::default(),
    };
    check(json!({}), |c| c, nothing_said.clone());
    let nulls =
        json!({"mac": null, "mtu": 0, "owner": null, "group": null, "bridge": "", "selinuxContext": ""});
    check(nulls, |c| c, nothing_said);
}

#[test]
fn every_option() {
    let tap = Tap { multi_queue: true, owner: Some(0), group: Some(107) };
    check(json!({"multiQueue": true, "owner": 0, "group": 107}), |c| c.tap, tap);
    check(json!({"mtu": 65521}), |c| c.mtu.map(u32::from), Some(65521));
    check(json!({"bridge": "br0"}), |c| c.bridge.map(|name| name.to_string()), Some("br0".to_owned()));
    // As cni.dev spells it, too.
    let label = "system_u:system_r:container_t:s0";
    check(json!({"selinuxcontext": label}), |c| c.label, Some(label.to_owned()));
}

#[test]
fn macs_in_their_order() {
    let mac = |conf: Value, environment: Option<&str>| {
        parse(conf, environment).map(|config| config.mac.map(|mac| mac.to_string()).unwrap_or_default())
    };
    let both = json!({"mac": "02:00:00:00:00:01", "runtimeConfig": {"mac": "02:00:00:00:00:03"}});
    assert_eq!(mac(json!({"mac": "02:00:00:00:00:01"}), None), Ok("02:00:00:00:00:01".to_owned()));
    let environment = Some("02:00:00:00:00:02");
    assert_eq!(mac(json!({"mac": "02:00:00:00:00:01"}), environment), Ok("02:00:00:00:00:02".to_owned()));
    assert_eq!(mac(both, environment), Ok("02:00:00:00:00:03".to_owned()));
}

#[test]
fn values_that_can_not_be() {
    check_error(json!({"bridge": "a/b"}), "bridge: \"a/b\": must not contain '/', ':' or white space");
    check_error(json!({"mtu": 20}), "mtu: 20: MTU 20 is not within 68..=65535");
    check_error(json!({"mtu": 65522}), "mtu: 65522: is more than the 65521 of any tap");
    check_error(
        json!({"mac": "01:00:00:00:00:01"}),
        "mac: 01:00:00:00:00:01: is not the address of one interface",
    );
    check_error(json!({"owner": -1}), "owner: -1: invalid value: integer `-1`, expected u32");
    check_error(json!({"group": u32::MAX}), "group: 4294967295: stands for none");
    check_error(json!({"selinuxContext": "a\0b"}), "selinuxContext: \"a\\0b\": is no label");
}

/// The README's table has each key, and no other.
#[test]
fn the_readme_lists_every_option() {
    let rows = include_str!("../../README.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let keys = cni::decode::field_names::<NetConf>().iter().copied();
    assert_eq!(rows.collect::<BTreeSet<_>>(), keys.collect());
}

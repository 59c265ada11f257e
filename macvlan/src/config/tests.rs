use std::collections::BTreeSet;

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
    check(json!({}), |c| (c.master.name, c.mode, c.mtu, c.broadcast_queue), (None, Mode::Bridge, None, None));
    check(json!({"master": "eth0", "bcqueuelen": 500}), |c| c.broadcast_queue, Some(500));
}

#[test]
fn modes() {
    for (name, mode) in [
        ("bridge", Mode::Bridge),
        ("private", Mode::Private),
        ("vepa", Mode::Vepa),
        ("passthru", Mode::Passthru),
        ("source", Mode::Source),
    ] {
        check(json!({"mode": name}), |c| c.mode, mode);
    }
    check_error(
        json!({"mode": "nat"}),
        "mode: \"nat\": is none of \"bridge\", \"private\", \"vepa\", \"passthru\", \"source\"",
    );
}

#[test]
fn values_that_can_not_be() {
    check_error(json!({"master": "a/b"}), "master: \"a/b\": must not contain '/', ':' or white space");
    check_error(json!({"mtu": 20}), "mtu: 20: MTU 20 is not within 68..=65535");
    check_error(json!({"mtu": -1}), "mtu: -1: invalid value: integer `-1`, expected u32");
    check_error(json!({"sourceMACs": ["02:00:00:00:00:01"]}), "sourceMACs: 1: is for mode \"source\" alone");
    check_error(
        json!({"hostAccess": true, "mode": "private"}),
        "hostAccess: true: containers reach each other, and so the host's shim, in mode \"bridge\" alone",
    );
    check_error(
        json!({"hostAccess": true, "linkInContainer": true}),
        "hostAccess: true: the master is the container's, so the host is not on its link",
    );
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

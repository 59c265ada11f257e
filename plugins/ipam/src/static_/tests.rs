use cni::request::Command;
use serde_json::{Value, json};

use super::*;

fn request(extra: &Value, args: &str) -> Request {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge"});
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let stdin = config.to_string().into_bytes();
    Request::parse(Command::Add, stdin, |name| if name == "CNI_ARGS" { args.into() } else { String::new() })
        .unwrap()
}

#[track_caller]
fn check(extra: Value, args: &str, expected: Result<&str, &str>) {
    let shown = Config::parse(&request(&extra, args)).map_err(|e| e.msg).map(|config| {
        let ips = config.addresses.iter().map(|ip| match ip.gateway {
            Some(gateway) => format!("{} via {gateway}", ip.address),
            None => ip.address.to_string(),
        });
        ips.collect::<Vec<_>>().join(", ")
    });
    assert_eq!(shown.as_deref().map_err(String::as_str), expected, "{extra} {args}");
}

#[test]
fn precedence() {
    let ipam = json!({"addresses": [{"address": "10.10.0.1/24", "gateway": "10.10.0.254"}, {"address": "fd00::1/64"}]});
    check(json!({"ipam": {}}), "", Ok(""));
    check(json!({"ipam": ipam}), "", Ok("10.10.0.1/24 via 10.10.0.254, fd00::1/64"));
    // The environment adds; its gateways are for its own addresses.
    check(
        json!({"ipam": ipam}),
        "IP=10.10.0.9/24, 11.11.0.9/24;GATEWAY=10.10.0.10,11.11.0.1",
        Ok(
            "10.10.0.1/24 via 10.10.0.254, fd00::1/64, 10.10.0.9/24 via 10.10.0.10, 11.11.0.9/24 via 11.11.0.1",
        ),
    );
    check(
        json!({"ipam": {}}),
        "IP=10.10.0.9/24;GATEWAY=10.10.0.1,10.10.0.2",
        Ok("10.10.0.9/24 via 10.10.0.2"),
    );
    // Arguments replace, capabilities replace those.
    let args = json!({"cni": {"ips": ["10.10.0.2/24"]}});
    check(json!({"ipam": ipam, "args": args}), "IP=10.10.0.9/24", Ok("10.10.0.2/24"));
    check(
        json!({"ipam": ipam, "args": args, "runtimeConfig": {"ips": ["10.10.0.3/24", "fd00::3/64"]}}),
        "IP=10.10.0.9/24",
        Ok("10.10.0.3/24, fd00::3/64"),
    );
    // What is replaced need not make sense.
    let hollow = json!({"addresses": [{"address": ""}]});
    check(json!({"ipam": hollow, "runtimeConfig": {"ips": ["10.10.0.3/24"]}}), "", Ok("10.10.0.3/24"));
    check(
        json!({"ipam": {"addresses": [{"version": "4", "address": "10.10.0.1/32"}]}}),
        "",
        Ok("10.10.0.1/32"),
    );
}

#[test]
fn errors_name_the_field_and_the_value() {
    let bad =
        |field: &str, value: &str| format!("{field}: {value:?}: is not an address with a prefix length");
    let err = bad("ipam.addresses[1].address", "10.10.0.1");
    check(
        json!({"ipam": {"addresses": [{"address": "fd00::1/64"}, {"address": "10.10.0.1"}]}}),
        "",
        Err(&err),
    );
    check(
        json!({"ipam": {"addresses": [{"gateway": "10.0.0.1"}]}}),
        "",
        Err(&bad("ipam.addresses[0].address", "")),
    );
    check(json!({"ipam": {}, "args": {"cni": {"ips": ["x"]}}}), "", Err(&bad("args.cni.ips[0]", "x")));
    check(
        json!({"ipam": {}, "runtimeConfig": {"ips": ["10.0.0.1"]}}),
        "",
        Err(&bad("runtimeConfig.ips[0]", "10.0.0.1")),
    );
    check(json!({"ipam": {}}), "IP=10.0.0.1", Err(&bad("CNI_ARGS IP[0]", "10.0.0.1")));
    check(
        json!({"ipam": {"addresses": [{"address": "10.0.0.1/8", "gateway": "x"}]}}),
        "",
        Err("ipam.addresses[0].gateway: \"x\": is not an IP address"),
    );
    let two = json!({"addresses": [{"address": "10.0.0.1/8"}, {"address": "10.0.0.2/8"}]});
    let why = "cniVersion: 0.2.0: does not support more than 1 address per family";
    check(json!({"cniVersion": "0.2.0", "ipam": two}), "", Err(why));
}

#[test]
fn check_looks_at_prev_result() {
    fn checked(ips: Value, expected: Result<(), &str>) {
        let config = json!({
            "ipam": {"addresses": [{"address": "10.0.0.5/8", "gateway": "10.0.0.1"}, {"address": "fd00::5/64"}]},
            "prevResult": {"cniVersion": "1.1.0", "ips": ips},
        });
        let at = request(&config, "").name;
        let at =
            Attachment { network: at, container: "c1".parse().unwrap(), ifname: "eth0".parse().unwrap() };
        let result = Static::check(&request(&config, ""), &at, &NetnsPath::new("/netns"));
        assert_eq!(result.map_err(|e| e.to_string()), expected.map_err(str::to_owned), "{ips}");
    }
    let (v4, v6) = (
        json!({"address": "10.0.0.5/8", "gateway": "10.0.0.1"}),
        json!({"address": "fd00::5/64", "gateway": "fd00::1"}),
    );
    checked(json!([v4, v6]), Ok(()));
    checked(json!([v6, {"address": "10.9.9.9/8"}, v4]), Ok(()));
    // The reference is content without any of them.
    checked(json!([v4]), Err("net/c1/eth0: address fd00::5/64 is not in prevResult"));
    checked(json!([]), Err("net/c1/eth0: address 10.0.0.5/8 is not in prevResult"));
    checked(
        json!([{"address": "10.0.0.5/8", "gateway": "10.0.0.2"}, v6]),
        Err("net/c1/eth0: address 10.0.0.5/8 has gateway 10.0.0.2 in prevResult, not 10.0.0.1"),
    );
    checked(
        json!([{"address": "10.0.0.5/16", "gateway": "10.0.0.1"}, v6]),
        Err("net/c1/eth0: address 10.0.0.5/8 is not in prevResult"),
    );
}

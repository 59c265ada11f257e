use cni::request::Command;
use serde_json::{Value, json};

use super::*;

/// A request with `extra` beside name and version, as an ADD has it.
fn request(extra: Value, args: &str) -> Request {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge"});
    let Value::Object(extra) = extra else { panic!("not an object") };
    config.as_object_mut().unwrap().extend(extra);
    let stdin = config.to_string().into_bytes();
    Request::parse(Command::Add, stdin, |name| if name == "CNI_ARGS" { args.into() } else { String::new() })
        .unwrap()
}

/// The sets, then what is requested of each.
#[track_caller]
fn check(extra: Value, args: &str, expected: Result<&str, &str>) {
    let shown = Config::parse(&request(extra.clone(), args)).map_err(|e| e.msg).map(|config| {
        let sets: Vec<_> = config.sets.iter().map(ToString::to_string).collect();
        let requested: Vec<_> = config.requested.iter().map(ToString::to_string).collect();
        format!("{} / {}", sets.join(" "), requested.join(" ")).trim_end_matches([' ', '/']).to_owned()
    });
    assert_eq!(shown.as_deref().map_err(String::as_str), expected, "{extra} {args}");
}

#[test]
fn where_ranges_come_from() {
    let old = json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.20", "gateway": "10.1.2.30"});
    check(json!({"ipam": old}), "", Ok("10.1.2.9-10.1.2.20"));
    let ranges = json!([[{"subnet": "10.1.2.0/24", "rangeEnd": "10.1.2.20"}, {"subnet": "10.1.4.0/24"}], [{"subnet": "11.1.2.0/30"}]]);
    check(
        json!({"ipam": {"ranges": ranges}}),
        "",
        Ok("10.1.2.1-10.1.2.20,10.1.4.1-10.1.4.254 11.1.2.1-11.1.2.2"),
    );
    // The capability's sets come first, then the old form, then `ranges`.
    check(
        json!({
            "runtimeConfig": {"irrelevant": "a", "ipRanges": [[{"subnet": "12.1.3.0/24"}]]},
            "ipam": {"subnet": "10.1.2.0/24", "ranges": [[{"subnet": "11.1.2.0/24"}]]},
        }),
        "",
        Ok("12.1.3.1-12.1.3.254 10.1.2.1-10.1.2.254 11.1.2.1-11.1.2.254"),
    );
    // Keys in any case, null and the empty string for nothing.
    let odd = json!({"SUBNET": "10.1.2.0/24", "rangestart": "", "rangeEnd": null, "ranges": null});
    check(json!({"IPAM": odd, "args": null, "runtimeConfig": null}), "", Ok("10.1.2.1-10.1.2.254"));
    check(json!({"ipam": {"rangeStart": "10.1.2.9"}}), "", Ok(""));
}

#[test]
fn where_requested_addresses_come_from() {
    let ranges = json!([[{"subnet": "10.1.2.0/30"}]]);
    let config = |args: Value, runtime: Value| json!({"ipam": {"ranges": ranges}, "args": {"cni": {"ips": args}}, "runtimeConfig": {"ips": runtime}});
    let set = "10.1.2.1-10.1.2.2 / ";
    let shown = |args: Value, runtime: Value, env: &str, expected: &str| {
        check(config(args, runtime), env, Ok(&format!("{set}{expected}")));
    };
    shown(json!(null), json!(null), "IP=10.1.2.10", "10.1.2.10");
    shown(json!(null), json!(null), "IP=10.1.2.11/24,fd00::7", "10.1.2.11 fd00::7");
    shown(json!(null), json!(null), "IgnoreUnknown=1;K8S_POD_NAME=x;IP=::ffff:10.1.2.12", "10.1.2.12");
    let (args, runtime) = (json!(["10.1.2.11/24", "fd00::11"]), json!(["192.168.0.1", "fd00::1/64"]));
    shown(args, runtime, "IP=10.1.2.10/24", "10.1.2.10 10.1.2.11 fd00::11 192.168.0.1 fd00::1");
}

#[test]
fn errors_name_the_field_and_the_value() {
    let subnet = json!([[{"subnet": "10.1.0.0/24"}]]);
    check(
        json!({}),
        "",
        Err(
            "configuration: {\"cniVersion\":\"1.1.0\",\"name\":\"net\",\"type\":\"bridge\"}: missing field `ipam`",
        ),
    );
    check(
        json!({"ipam": {"subnet": "10.1.2.0"}}),
        "",
        Err("ipam.subnet: \"10.1.2.0\": is not an address with a prefix length"),
    );
    check(
        json!({"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/33"}]]}}),
        "",
        Err("ipam.ranges[1][0].subnet: \"10.2.0.0/33\": is not an address with a prefix length"),
    );
    check(
        json!({"ipam": {"ranges": [[{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.1.5"}]]}}),
        "",
        Err("ipam.ranges[0][0].rangeEnd: 10.1.1.5: is not in 10.1.0.0/24"),
    );
    check(
        json!({"ipam": {"subnet": "10.1.0.0/24", "gateway": "x"}}),
        "",
        Err("ipam.gateway: \"x\": is not an IP address"),
    );
    check(
        json!({"ipam": {"subnet": "10.1.0.0/24", "ranges": subnet}}),
        "",
        Err("ipam.ranges[0]: 10.1.0.1-10.1.0.254: overlaps with ipam (10.1.0.1-10.1.0.254)"),
    );
    check(
        json!({"ipam": {}, "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.3/24"}]]}}),
        "",
        Err("runtimeConfig.ipRanges[0][0].subnet: 10.1.0.3/24: has host bits set; the subnet is 10.1.0.0/24"),
    );
    check(
        json!({"ipam": {"ranges": subnet}, "runtimeConfig": {"ips": ["10.1.0.5", "10.1.0.5/99"]}}),
        "",
        Err("runtimeConfig.ips[1]: \"10.1.0.5/99\": is not an IP address"),
    );
    check(json!({"ipam": {"ranges": subnet}}), "IP=a", Err("CNI_ARGS IP[0]: \"a\": is not an IP address"));
    check(
        json!({"cniVersion": "0.2.0", "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}}),
        "",
        Err("cniVersion: 0.2.0: does not support more than 1 address per family"),
    );
    check(
        json!({"cniVersion": "0.2.0", "ipam": {"ranges": [[{"subnet": "10.1.0.0/30"}], [{"subnet": "fd00::/126"}]]}}),
        "",
        Ok("10.1.0.1-10.1.0.2 fd00::1-fd00::3"),
    );
    let none = Config::parse(&request(json!({"ipam": {}}), "")).unwrap();
    assert_eq!(none.some_sets().unwrap_err().msg, "ipam.ranges: absent: no IP ranges specified");
}

#[test]
fn del_and_gc_need_the_data_directory_alone() {
    let broken =
        request(json!({"ipam": {"subnet": "nonsense", "dataDir": "/data", "ranges": 7}}), "IP=nonsense");
    assert_eq!(place(&broken).unwrap(), Place::new("/data".as_ref(), &"net".parse().unwrap()));
    let default = Place::new("/var/lib/cni/networks".as_ref(), &"net".parse().unwrap());
    for ipam in [json!({}), json!({"ipam": null}), json!({"ipam": {"dataDir": ""}})] {
        assert_eq!(place(&request(ipam, "")).unwrap(), default);
    }
}

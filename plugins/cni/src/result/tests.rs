use serde_json::json;

use super::*;

fn full() -> AddResult {
    AddResult {
        interfaces: vec![
            Interface {
                name: "cni0".into(),
                mac: "02:00:00:00:00:01".into(),
                mtu: Some(1500),
                ..Interface::default()
            },
            Interface {
                name: "eth0".into(),
                sandbox: "/run/netns/x".into(),
                mtu: Some(1450),
                ..Interface::default()
            },
        ],
        ips: vec![
            IpConfig {
                interface: Some(1),
                address: "10.1.0.5/16".parse().unwrap(),
                gateway: Some("10.1.0.1".parse().unwrap()),
            },
            IpConfig { interface: Some(1), address: "10.2.0.5/16".parse().unwrap(), gateway: None },
            IpConfig { interface: Some(1), address: "fd00::5/64".parse().unwrap(), gateway: None },
        ],
        routes: vec![
            Route { table: Some(0), mtu: Some(1300), ..Route::new("0.0.0.0/0".parse().unwrap(), None) },
            Route::new("::/0".parse().unwrap(), Some("fd00::1".parse().unwrap())),
        ],
        dns: Dns { nameservers: vec!["10.1.0.1".into()], ..Dns::default() },
    }
}

#[track_caller]
fn check(result: &AddResult, version: Version, expected: &str) {
    let text = serde_json::to_string(&result.encode(version).unwrap()).unwrap();
    assert_eq!(text, expected);
}

#[test]
fn each_family_is_written_as_the_reference_writes_it() {
    check(
        &full(),
        Version::V0_2_0,
        concat!(
            r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.5/16","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}]},"#,
            r#""ip6":{"ip":"fd00::5/64","routes":[{"dst":"::/0","gw":"fd00::1"}]},"dns":{"nameservers":["10.1.0.1"]}}"#
        ),
    );
    check(
        &full(),
        Version::V0_4_0,
        concat!(
            r#"{"cniVersion":"0.4.0","interfaces":[{"name":"cni0","mac":"02:00:00:00:00:01"},"#,
            r#"{"name":"eth0","sandbox":"/run/netns/x"}],"#,
            r#""ips":[{"version":"4","interface":1,"address":"10.1.0.5/16","gateway":"10.1.0.1"},"#,
            r#"{"version":"4","interface":1,"address":"10.2.0.5/16"},{"version":"6","interface":1,"address":"fd00::5/64"}],"#,
            r#""routes":[{"dst":"0.0.0.0/0","mtu":1300,"table":0},{"dst":"::/0","gw":"fd00::1"}],"#,
            r#""dns":{"nameservers":["10.1.0.1"]}}"#
        ),
    );
    check(
        &full(),
        Version::V1_1_0,
        concat!(
            r#"{"cniVersion":"1.1.0","interfaces":[{"name":"cni0","mac":"02:00:00:00:00:01","mtu":1500},"#,
            r#"{"name":"eth0","mtu":1450,"sandbox":"/run/netns/x"}],"#,
            r#""ips":[{"interface":1,"address":"10.1.0.5/16","gateway":"10.1.0.1"},"#,
            r#"{"interface":1,"address":"10.2.0.5/16"},{"interface":1,"address":"fd00::5/64"}],"#,
            r#""routes":[{"dst":"0.0.0.0/0","mtu":1300,"table":0},{"dst":"::/0","gw":"fd00::1"}],"#,
            r#""dns":{"nameservers":["10.1.0.1"]}}"#
        ),
    );
}

#[test]
fn an_empty_result_in_each_family() {
    let empty = AddResult::default();
    check(&empty, Version::V0_3_1, r#"{"cniVersion":"0.3.1","dns":{}}"#);
    check(&empty, Version::V1_0_0, r#"{"cniVersion":"1.0.0"}"#);
    let err = empty.encode(Version::V0_2_0).unwrap_err();
    assert_eq!(err.code, Code::InvalidConfig);
    assert_eq!(
        err.msg,
        "cniVersion: 0.2.0: CNI 0.2.0 can't express a result without an IP address; use 0.3.0 or newer"
    );
}

#[test]
fn what_is_written_is_read_back() {
    for version in Version::ALL {
        let mut expected = full();
        if version < Version::V1_1_0 {
            expected.interfaces.iter_mut().for_each(|interface| interface.mtu = None);
        }
        if version < Version::V0_3_0 {
            expected.interfaces.clear();
            expected.ips.remove(1);
            expected.ips.iter_mut().for_each(|ip| ip.interface = None);
            expected.routes[0] = Route::new("0.0.0.0/0".parse().unwrap(), None);
        }
        let value = serde_json::to_value(full().encode(version).unwrap()).unwrap();
        assert_eq!(AddResult::decode(&value, Version::V0_4_0).unwrap(), expected, "{version}");
    }
}

#[test]
fn reads_what_other_plugins_write() {
    #[track_caller]
    fn check(value: Value, expected: Result<AddResult, &str>) {
        assert_eq!(
            AddResult::decode(&value, Version::V1_0_0).map_err(|e| e.msg),
            expected.map_err(str::to_owned)
        );
    }
    let ip = |interface| IpConfig { interface, address: "10.1.0.5/16".parse().unwrap(), gateway: None };
    let with = |ip| Ok(AddResult { ips: vec![ip], ..AddResult::default() });
    check(json!({"ips": [{"address": "10.1.0.5/16", "interface": -1}]}), with(ip(None)));
    check(json!({"ips": [{"Address": "10.1.0.5/16", "interface": null, "gateway": ""}]}), with(ip(None)));
    check(
        json!({"cniVersion": "", "ips": [{"version": "4", "address": "10.1.0.5/16", "interface": 7}]}),
        with(ip(Some(7))),
    );
    check(json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16"}}), with(ip(None)));
    check(
        json!({"ips": [{"address": "10.1.0.5"}]}),
        Err("result: ips[0].address: \"10.1.0.5\": is not an address with a prefix length"),
    );
    check(
        json!({"cniVersion": "2.0.0"}),
        Err("result: configuration: \"2.0.0\": unknown CNI version \"2.0.0\""),
    );
    check(json!([]), Err("result: []: is not an object"));
}

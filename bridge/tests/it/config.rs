//! How configurations are read: keys in any case, null, unknown keys, CNI_ARGS, precedence; and skel's order of errors.

use std::path::Path;

use serde_json::json;

use crate::net::{attach, call, dual_stack, layer2, message, run};

#[test]
fn keys_match_in_any_case_null_is_absence_and_unknown_keys_pass() {
    run("keys", |lab| {
        let config = json!({
            "CNIVersion": "1.1.0", "NAME": "net", "Type": "bridge", "BRIDGE": "cni0", "isgateway": true,
            "MTU": 1400, "vlan": null, "vlanTrunk": null, "dns": null, "args": null, "runtimeConfig": null,
            "hairpinMode": null, "capabilities": {"mac": true}, "podman": {"x": [1]}, "x-unknown": 5,
            "IPAM": {"TYPE": "host-local", "RANGES": [[{"Subnet": "10.1.0.0/16"}]]},
        });
        let one = attach(lab, &config, "one");
        assert_eq!(one.result["interfaces"][2]["mtu"], 1400);
        assert_eq!(lab.host().addresses("cni0"), ["10.1.0.1/16"]);
        one.check().ok();
        one.detach();
    });
}

#[test]
fn a_value_of_the_wrong_kind_is_named() {
    run("wrong_kinds", |lab| {
        let ns = lab.netns("one");
        for (more, expected) in [
            (json!({"bridge": 5}), "bridge: 5: invalid type: integer `5`, expected a string"),
            (
                json!({"isGateway": "yes"}),
                "isGateway: \"yes\": invalid type: string \"yes\", expected a boolean",
            ),
            (json!({"vlan": "5"}), "vlan: \"5\": invalid type: string \"5\", expected i64"),
            (json!({"ipam": []}), "ipam: []: "),
            (json!({"runtimeConfig": {"mac": 1}}), "runtimeConfig.mac: 1: invalid type"),
        ] {
            let error = call(lab, &layer2(more), &ns).add().err(7);
            assert!(message(&error).starts_with(&format!("bridge: {expected}")), "{error}");
        }
        assert!(!lab.host().has_link("cni0"));
    });
}

#[test]
fn requested_addresses_come_from_every_place() {
    run("requested", |lab| {
        let more = json!({
            "args": {"cni": {"ips": ["10.1.0.50"]}},
            "runtimeConfig": {"ips": ["fd00:1::50/64"]},
        });
        let one = attach(lab, &dual_stack(more), "one");
        assert_eq!(one.ip(0).to_string(), "10.1.0.50");
        assert_eq!(one.ip(1).to_string(), "fd00:1::50");
        let two = lab.netns("two");
        let two = call(lab, &dual_stack(json!({})), &two).args("IP=10.1.0.60");
        assert_eq!(two.add().ok()["ips"][0]["address"], "10.1.0.60/16");
        two.del().ok();
        one.detach();
    });
}

#[test]
fn unknown_arguments_are_an_error_unless_they_may_pass() {
    run("args", |lab| {
        let ns = lab.netns("one");
        let call = call(lab, &dual_stack(json!({})), &ns);
        call.clone().args("K8S_POD_NAME=web").add().err(4);
        call.clone().args("MAC=a=b").add().err(4);
        assert!(!lab.host().has_link("cni0"));
        // DEL has no use for them, and must not fail for them.
        call.clone().args("K8S_POD_NAME=web").del().ok();
        let passing = call.args("K8S_POD_NAME=web;IgnoreUnknown=1");
        passing.add().ok();
        passing.del().ok();
    });
}

/// What skel enforces, in its order; each leaves everything as it was.
#[test]
fn errors_come_in_the_order_of_the_reference_library() {
    run("order", |lab| {
        let ns = lab.netns("one");
        let good = call(lab, &dual_stack(json!({})), &ns);
        let error = good.clone().raw_config("{").container("").add().err(4);
        assert_eq!(message(&error), "bridge: required env variables [CNI_CONTAINERID] missing");
        good.clone().path(&[]).add().err(4);
        good.clone().container("a/b").add().err(4);
        good.clone().ifname("a/b").add().err(4);
        good.clone().ifname("sixteen-bytes-xx").add().err(4);
        good.clone().raw_config("{\"name\": ").add().err(6);
        good.clone().raw_config(r#"{"cniVersion": "9.9.9"}"#).add().err(7);
        let error = good.clone().raw_config(r#"{"name": "net", "cniVersion": "9.9.9"}"#).add().err(1);
        assert!(error["details"].as_str().unwrap().contains("9.9.9"), "{error}");
        good.clone().config(&json!({"name": "net", "cniVersion": "0.3.1"})).check().err(1);
        good.clone().config(&json!({"name": "net", "cniVersion": "1.0.0"})).gc().err(1);
        good.clone().config(&json!({"name": "net", "cniVersion": "1.0.0"})).status().err(1);
        good.call("FROBNICATE").err(4);
        assert!(!lab.host().has_link("cni0") && Path::new("/run/tenon").exists().eq(&false));
    });
}

#[test]
fn version_ignores_its_input() {
    run("version", |lab| {
        let reply = lab.plugin("bridge").raw_config("no JSON").version().ok();
        assert_eq!(reply["cniVersion"], "1.1.0");
        assert_eq!(
            reply["supportedVersions"],
            json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
        );
    });
}

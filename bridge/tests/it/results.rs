//! Results in the words of every version, and DEL and CHECK with them.

use serde_json::{Value, json};

use crate::net::{attach, call, dual_stack, layer2, message, run};

fn in_version(version: &str) -> Value {
    dual_stack(json!({"cniVersion": version}))
}

#[test]
fn single_addresses_until_0_2_0() {
    run("results_0_2", |lab| {
        let ns = lab.netns("one");
        for version in ["0.1.0", "0.2.0", ""] {
            let call = call(lab, &in_version(version), &ns);
            let result = call.add().ok();
            assert_eq!(result["cniVersion"], if version.is_empty() { "0.1.0" } else { version });
            assert_eq!(result["ip4"]["gateway"], "10.1.0.1");
            assert_eq!(result["ip4"]["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]));
            assert_eq!(result["ip6"]["gateway"], "fd00:1::1");
            assert_eq!(result["dns"], json!({}));
            assert!(result.get("interfaces").is_none() && result.get("ips").is_none());
            call.del().ok();
        }
    });
}

#[test]
fn lists_from_0_3_0_on() {
    run("results_0_3", |lab| {
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let one = attach(lab, &in_version(version), "one");
            let result = &one.result;
            assert_eq!(result["cniVersion"], version);
            assert_eq!(result["interfaces"].as_array().unwrap().len(), 3, "{version}");
            assert_eq!(result["ips"][1]["interface"], 2, "{version}");
            let before_1 = version.starts_with('0');
            assert_eq!(result["ips"][0].get("version"), before_1.then_some(&json!("4")), "{version}");
            assert_eq!(result["ips"][1].get("version"), before_1.then_some(&json!("6")), "{version}");
            assert_eq!(result.get("dns"), before_1.then_some(&json!({})), "{version}");
            let mtu = result["interfaces"][2].get("mtu").cloned();
            assert_eq!(mtu, (version == "1.1.0").then_some(json!(1500)), "{version}");
            if version >= "0.4.0" {
                one.check().ok();
            }
            one.detach();
            lab.remove_netns(one.ns);
        }
    });
}

/// A result without an address can't be said in 0.1.0 and 0.2.0; the reference leaves everything in place when it finds out.
#[test]
fn a_result_that_the_version_cannot_say_leaves_nothing() {
    run("results_layer2", |lab| {
        let ns = lab.netns("one");
        for version in ["0.1.0", "0.2.0"] {
            let error = call(lab, &layer2(json!({"cniVersion": version})), &ns).add().err(7);
            assert!(message(&error).contains("can't express a result without an IP address"), "{error}");
            assert_eq!(ns.links().len(), 1);
        }
    });
}

/// A runtime that was upgraded under a container sends the old result with the new version.
#[test]
fn a_result_of_another_version_is_understood() {
    run("results_mixed", |lab| {
        let one = attach(lab, &in_version("0.4.0"), "one");
        let mut config = one.config.clone();
        config["cniVersion"] = json!("1.1.0");
        config["prevResult"] = one.result.clone();
        one.call.clone().config(&config).check().ok();
        one.call.config(&config).del().ok();
    });
}

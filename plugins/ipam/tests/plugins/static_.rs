//! `static` beside the reference's.

use std::path::Path;

use serde_json::{Value, json};

use crate::scene::{PEERS, run};

#[test]
fn answers_as_the_reference() {
    run("answers_as_the_reference", |lab| {
        let ipam = json!({
            "type": "static",
            "addresses": [{"address": "10.10.0.1/24", "gateway": "10.10.0.254"}, {"address": "3ffe:ffff:0:1ff::1/64"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.10.5.1"}, {"dst": "3ffe:ffff:0:1ff::1/64"}],
            "dns": {"nameservers": ["8.8.8.8"], "domain": "example.com", "search": ["example.com"]},
        });
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            for (extra, args) in [
                (json!({}), ""),
                (json!({}), "IP=10.11.0.1/24,11.11.0.1/24;GATEWAY=10.11.0.254,11.11.0.254"),
                (json!({"args": {"cni": {"ips": ["10.12.0.1/24"]}}}), "IP=10.11.0.1/24"),
                (
                    json!({"args": {"cni": {"ips": ["10.12.0.1/24"]}}, "runtimeConfig": {"ips": ["10.13.0.1/24"]}}),
                    "",
                ),
            ] {
                let mut config =
                    json!({"cniVersion": version, "name": "net", "type": "bridge", "ipam": ipam});
                config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
                let [theirs, ours] = [lab.peer(Path::new(PEERS), "static"), lab.plugin("static")]
                    .map(|call| call.config(&config).netns_path("/run/netns/c").args(args));
                assert_eq!(ours.add().ok(), theirs.add().ok(), "{config} {args}");
                ours.del().ok();
            }
        }
    });
}

#[test]
fn the_other_verbs() {
    run("the_other_verbs", |lab| {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge",
            "ipam": {"type": "static", "addresses": [{"address": "10.10.0.1/24"}]},
        });
        let call = |config: &Value| lab.plugin("static").config(config).netns_path("/run/netns/c");
        let result = call(&config).add().ok();
        call(&config).check().err(7);
        call(&config).status().ok();
        config["prevResult"] = result;
        call(&config).check().ok();
        config["prevResult"]["ips"] = json!([]);
        call(&config).check().err(999);
        config["cni.dev/valid-attachments"] = json!([]);
        call(&config).gc().ok();
        config["ipam"]["addresses"][0]["address"] = json!("10.10.0.1");
        call(&config).status().err(7);
        call(&config).del().ok();
    });
}

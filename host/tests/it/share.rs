use serde_json::{Value, json};
use testenv::{lab, lab::Lab, plugin::PluginCall};

use super::with_result;

fn share(more: Value) -> Value {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "host", "mode": "share"});
    let (Value::Object(to), Value::Object(more)) = (&mut config, more) else { panic!("not objects") };
    to.extend(more);
    config
}

fn call(lab: &Lab, config: &Value) -> PluginCall {
    lab.plugin("host").config(config).netns(lab.host())
}

#[test]
fn the_host_is_told_as_it_is() {
    lab::run("host_share", |lab| {
        lab.outside("up0");
        lab.host().add_bridge("idle");
        lab.rebase();
        let config = share(json!({"dns": {"nameservers": ["192.0.2.53"]}}));
        let result = call(lab, &config).add().ok();
        let sandbox = lab.host().path().to_str().unwrap();
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 1, "{result}");
        assert_eq!(
            (&result["interfaces"][0]["name"], &result["interfaces"][0]["sandbox"]),
            (&json!("up0"), &json!(sandbox))
        );
        assert_eq!(
            result["ips"],
            json!([
                {"interface": 0, "address": "198.51.100.1/24", "gateway": "198.51.100.254"},
                {"interface": 0, "address": "2001:db8:1::1/64", "gateway": "2001:db8:1::254"},
            ])
        );
        assert_eq!(result["routes"][0], json!({"dst": "0.0.0.0/0", "gw": "198.51.100.254"}));
        assert_eq!(result["dns"]["nameservers"][0], "192.0.2.53");

        let named = call(lab, &share(json!({"interfaces": ["lo", "idle"]}))).add().ok();
        let names: Vec<_> = named["interfaces"].as_array().unwrap().iter().map(|i| &i["name"]).collect();
        assert_eq!(names, ["lo", "idle"]);
        let missing = call(lab, &share(json!({"interfaces": ["nope"]}))).add().err(7);
        assert_eq!(missing["msg"], "host: interfaces: nope: the host has no such interface");

        let checked = call(lab, &with_result(config, &result));
        checked.check().ok();
        checked.status().ok();
        checked.del().ok();
        checked.check().ok();
    });
}

#[test]
fn check_tells_what_is_gone() {
    lab::run("host_share_check", |lab| {
        lab.outside("up0");
        let config = share(json!({}));
        let result = call(lab, &config).add().ok();
        let checked = call(lab, &with_result(config, &result));
        for (command, message) in [
            ("route del ::/0", "host: the route to ::/0 via 2001:db8:1::254 is gone"),
            ("address del 198.51.100.1/24 dev up0", "host: up0 has lost its address 198.51.100.1/24"),
            ("link delete up0", "host: up0 is gone"),
        ] {
            checked.check().ok();
            lab.exec(&[&["ip"], &command.split(' ').collect::<Vec<_>>()[..]].concat()).ok();
            assert_eq!(checked.check().err(999)["msg"], message);
            let undo = match command {
                "route del ::/0" => "route add ::/0 via 2001:db8:1::254",
                "address del 198.51.100.1/24 dev up0" => {
                    lab.exec(&["ip", "address", "add", "198.51.100.1/24", "dev", "up0"]).ok();
                    "route add default via 198.51.100.254"
                }
                // The last: there is nothing to give back.
                _ => continue,
            };
            lab.exec(&[&["ip"], &undo.split(' ').collect::<Vec<_>>()[..]].concat()).ok();
        }
        lab.rebase();
    });
}

#[test]
fn each_mode_wants_its_own_namespace() {
    lab::run("host_share_netns", |lab| {
        let c1 = lab.netns("c1");
        call(lab, &share(json!({}))).netns(&c1).add().err(8);
        call(lab, &super::network(json!({}))).add().err(8);
        super::host_device(lab, &super::network(json!({}))).netns(lab.host()).add().err(8);
    });
}

//! Address plugins that are not ours: found in CNI_PATH, called with everything they should get.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};
use testenv::{lab::Lab, ns::Ns, plugin::PluginCall};

use crate::net::{call, dual_stack, ip, layer2, message, run, with_result};

/// A plugin that writes down each call, and does what its own configuration says: `ipam.fail` names a verb that fails.
const SCRIPT: &str = r#"#!/bin/sh
input=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS $CNI_PATH" >> DIR/calls
printf '%s' "$input" > "DIR/stdin.$CNI_COMMAND"
case "$input" in *"\"fail\":\"$CNI_COMMAND\""*)
    printf '{"cniVersion":"1.1.0","code":42,"msg":"as told","details":"more"}'; exit 1;;
esac
echo "said on stderr" >&2
[ "$CNI_COMMAND" = ADD ] && cat DIR/answer
exit 0
"#;

/// The plugin `foreign`, its answer to ADD, and a call of ours with CNI_PATH leading to it.
fn foreign(lab: &Lab, answer: &str, fail: &str) -> (PluginCall, Value, Ns) {
    let dir = lab.dir();
    let script = dir.join("foreign");
    fs::write(&script, SCRIPT.replace("DIR", dir.to_str().unwrap())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("answer"), answer).unwrap();
    let ns = lab.netns("one");
    let config =
        layer2(json!({"ipam": {"type": "foreign", "fail": fail, "own": [1]}, "isDefaultGateway": true}));
    let call = call(lab, &config, &ns).path(&[&dir]).args("IgnoreUnknown=1;A=b");
    (call, config, ns)
}

fn calls(lab: &Lab) -> Vec<String> {
    let text = fs::read_to_string(lab.dir().join("calls")).unwrap_or_default();
    text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

const ANSWER: &str =
    r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.0.7/16"}],"dns":{"domain":"d"}}"#;

#[test]
fn it_gets_the_environment_and_the_whole_configuration() {
    run("delegate", |lab| {
        let (call, config, _) = foreign(lab, ANSWER, "");
        let reply = call.add();
        assert!(reply.stderr.contains("said on stderr"), "{reply}");
        let result = reply.ok();
        assert_eq!(
            result["ips"][0],
            json!({"interface": 2, "address": "10.1.0.7/16", "gateway": "10.1.0.1"})
        );
        assert_eq!(result["dns"], json!({"domain": "d"}));
        let line = fs::read_to_string(lab.dir().join("calls")).unwrap();
        assert_eq!(
            line.trim(),
            format!("ADD one /run/netns/one eth0 IgnoreUnknown=1;A=b {}", lab.dir().display())
        );
        let stdin = |verb: &str| fs::read_to_string(lab.dir().join(format!("stdin.{verb}"))).unwrap();
        assert_eq!(stdin("ADD"), config.to_string());
        // CHECK and DEL, GC and STATUS are its as well, with what came with them.
        let later = call.config(&with_result(config.clone(), &result));
        later.check().ok();
        later.del().ok();
        assert_eq!(stdin("CHECK"), with_result(config.clone(), &result).to_string());
        assert_eq!(stdin("DEL"), stdin("CHECK"));
        let mut valid = config;
        valid["cni.dev/valid-attachments"] = json!([]);
        later.clone().config(&valid).gc().ok();
        later.config(&valid).status().ok();
        assert_eq!(calls(lab), ["ADD", "CHECK", "DEL", "GC", "STATUS"]);
        assert_eq!(stdin("GC"), valid.to_string());
    });
}

#[test]
fn its_errors_are_passed_on_code_and_all() {
    run("delegate_errors", |lab| {
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let (call, mut config, ns) = foreign(lab, ANSWER, verb);
            let result = if verb == "ADD" { json!({}) } else { call.add().ok() };
            config = with_result(config, &result);
            config["cni.dev/valid-attachments"] = json!([{"containerID": "one", "ifname": "eth0"}]);
            let error = call.clone().config(&config).call(verb).err(42);
            assert_eq!(message(&error), "bridge: plugin foreign: as told");
            assert_eq!(error["details"], "more");
            if verb == "ADD" {
                // A failed ADD is followed by its DEL.
                assert_eq!(calls(lab)[..2], ["ADD", "DEL"]);
            }
            config["ipam"]["fail"] = json!("");
            call.config(&config).del().ok();
            lab.remove_netns(ns);
        }
    });
}

/// The reference forgets the address when it is the answer that displeases.
#[test]
fn an_answer_without_an_address_is_given_back() {
    run("delegate_empty", |lab| {
        for (answer, code) in
            [(r#"{"cniVersion":"1.1.0","ips":[]}"#, 7), ("no JSON", 6), ("", 6), (r#"{"ips":[{}]}"#, 6)]
        {
            let (call, _, ns) = foreign(lab, answer, "");
            let error = call.add().err(code);
            assert!(message(&error).starts_with("bridge: "), "{error}");
            let calls = calls(lab);
            assert_eq!((calls[0].as_str(), calls[1].as_str()), ("ADD", "DEL"));
            fs::remove_file(lab.dir().join("calls")).unwrap();
            lab.remove_netns(ns);
        }
    });
}

/// And so when a later step fails.
#[test]
fn a_failure_after_it_gives_the_address_back() {
    run("delegate_later", |lab| {
        lab.host().add_bridge("cni0");
        lab.host().add_address("cni0", "10.99.0.1/24");
        let (call, _, _) = foreign(lab, ANSWER, "");
        call.add().err(7);
        assert_eq!(calls(lab), ["ADD", "DEL"]);
    });
}

/// Our host-local stands in for the one in CNI_PATH only where that is ours.
#[test]
fn another_makes_host_local_is_run() {
    run("delegate_host_local", |lab| {
        let (call, _, _) = foreign(lab, ANSWER, "");
        fs::rename(lab.dir().join("foreign"), lab.dir().join("host-local")).unwrap();
        let call = call.config(&dual_stack(json!({})));
        assert_eq!(call.add().ok()["ips"][0]["address"], "10.1.0.7/16");
        assert_eq!(calls(lab), ["ADD"]);
        call.del().ok();
        assert_eq!(calls(lab), ["ADD", "DEL"]);
        assert_eq!(ip(lab.host(), "link show cni0")[0]["ifname"], "cni0");
    });
}

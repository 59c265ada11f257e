//! What plugins are told, and when: by plugins that write it down.

use std::{fs, path::Path};

use serde_json::{Value, json};
use testenv::lab::{self, Lab};

use crate::scene::{Said, Scene, calls, path_of};

fn recorders(lab: &Lab, names: &[&str]) -> Scene {
    let scene = Scene::new(lab);
    for name in names {
        scene.recorder(name);
    }
    scene
}

fn result(ifname: &str) -> Value {
    json!({"cniVersion": "1.0.0", "interfaces": [{"name": ifname, "sandbox": "/s"}], "future": {"kept": true}})
}

/// Two plugins, the first with capabilities.
fn list(version: &str) -> Value {
    json!({"name": "net", "cniVersion": version, "plugins": [
        {"type": "first", "capabilities": {"mac": true, "ips": false}, "own": 1},
        {"type": "second", "name": "overwritten"},
    ]})
}

#[test]
fn a_chain_is_told_what_libcni_would_tell_it() {
    lab::run("a_chain_is_told_what_libcni_would_tell_it", |lab| {
        let (scene, ns) = (recorders(lab, &["first", "second"]), lab.netns("blue"));
        scene.conf("net.conflist", &list("1.0.0"));
        scene.answer("first", "ADD", false, &result("a"));
        // No version: the configuration's is meant.
        scene.answer("second", "ADD", false, &json!({"interfaces": [{"name": "b"}], "dns": {}}));
        let variables = [
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=x"),
            ("CAP_ARGS", r#"{"mac":"02:00:00:00:00:01","ips":["10.0.0.2/24"],"bandwidth":{}}"#),
            ("CNI_IFNAME", "net7"),
            ("CNI_CONTAINERID", "not this"),
        ];
        let said = scene.netctl_with(&variables, "exec add net blue").ok();
        assert_eq!(said.json(), json!({"cniVersion": "1.0.0", "interfaces": [{"name": "b"}]}));
        assert!(said.stderr.contains("first was here\n"), "{said:#?}");

        let id = scene.results()[0].split('-').nth(2).unwrap().to_owned();
        let environment = format!(
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=x\nCNI_CONTAINERID=cnitool-{id}\nCNI_IFNAME=net7\nCNI_NETNS={}",
            path_of(&ns)
        );
        let told = scene.told();
        assert_eq!(calls(&told), ["first ADD", "second ADD"]);
        assert_eq!((&told[0].environment, &told[1].environment), (&environment, &environment));
        let first = json!({"name": "net", "cniVersion": "1.0.0", "type": "first", "own": 1,
            "capabilities": {"mac": true, "ips": false}, "runtimeConfig": {"mac": "02:00:00:00:00:01"}});
        assert_eq!(told[0].config, first);
        let second =
            json!({"name": "net", "cniVersion": "1.0.0", "type": "second", "prevResult": result("a")});
        assert_eq!(told[1].config, second);

        // DEL and CHECK remember what ADD was told, and get the final result, in the order that is theirs.
        let variables = [("CNI_IFNAME", "net7")];
        let last = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "b"}]});
        for (verb, order) in
            [("check", ["first CHECK", "second CHECK"]), ("del", ["second DEL", "first DEL"])]
        {
            scene.netctl_with(&variables, &format!("exec {verb} net blue")).ok();
            let told = scene.told();
            assert_eq!(calls(&told), order);
            for call in &told {
                assert_eq!(call.environment, environment);
                assert_eq!(call.config["prevResult"], last);
                let mac = &call.config["runtimeConfig"]["mac"];
                assert_eq!(mac.is_string(), call.call.starts_with("first"), "{call:?}");
            }
        }
        assert!(scene.results().is_empty());
    });
}

#[test]
fn a_failed_add_is_undone() {
    lab::run("a_failed_add_is_undone", |lab| {
        let (scene, _ns) = (recorders(lab, &["first", "second"]), lab.netns("blue"));
        scene.conf("net.conflist", &list("1.0.0"));
        scene.answer("first", "ADD", false, &result("a"));
        scene.answer("second", "ADD", true, &json!({"code": 11, "msg": "not now", "details": "later"}));
        scene.answer("second", "DEL", true, &json!({"code": 999, "msg": "never"}));
        let said = scene.netctl("exec add net blue");
        assert!(said.stderr.contains("✗ second  ADD  code 11: not now; later"), "{said:#?}");
        assert_eq!(said.failed(11), json!({"code": 11, "msg": "second: not now", "details": "later"}));
        let told = scene.told();
        assert_eq!(calls(&told), ["first ADD", "second ADD", "second DEL", "first DEL"]);
        assert_eq!(told[3].config["prevResult"], result("a"));
        assert!(scene.results().is_empty());
    });
}

#[test]
fn what_was_there_before_a_failed_add_stays() {
    lab::run("what_was_there_before_a_failed_add_stays", |lab| {
        let (scene, ns) = (recorders(lab, &["first", "second"]), lab.netns("blue"));
        scene.conf("net.conflist", &list("1.0.0"));
        scene.answer("first", "ADD", true, &json!({"code": 7, "msg": "exists"}));
        // Somebody else's interface.
        lab.host().add_veth("outer", &ns, "eth0");
        let said = scene.netctl("exec add net blue");
        assert!(said.stderr.contains("an interface eth0 in /run/netns/blue"), "{said:#?}");
        said.failed(7);
        assert_eq!(calls(&scene.told()), ["first ADD"]);
        // An earlier ADD.
        scene.answer("first", "ADD", false, &result("a"));
        fs::remove_file(scene.plugins.join("first.ADD.fail")).unwrap();
        scene.answer("second", "ADD", false, &result("b"));
        scene.netctl("exec add net blue --ifname eth1").ok();
        scene.answer("second", "ADD", true, &json!({"code": 7, "msg": "exists"}));
        scene.told();
        let said = scene.netctl("exec add net blue --ifname eth1");
        assert!(said.stderr.contains("an earlier ADD, in "), "{said:#?}");
        said.failed(7);
        assert_eq!(calls(&scene.told()), ["first ADD", "second ADD"]);
        assert_eq!(scene.results().len(), 1);
    });
}

#[test]
fn del_goes_on_without_what_is_gone() {
    lab::run("del_goes_on_without_what_is_gone", |lab| {
        let (scene, ns) = (recorders(lab, &["first", "second"]), lab.netns("blue"));
        scene.conf("net.conflist", &list("1.0.0"));
        for name in ["first", "second"] {
            scene.answer(name, "ADD", false, &result(name));
        }
        // Never added: fine.
        scene.netctl("exec del net nowhere").ok();
        assert_eq!(scene.told()[0].config.get("prevResult"), None);
        // A plugin fails: the cache entry stays for the next try.
        scene.netctl("exec add net blue").ok();
        scene.answer("second", "DEL", true, &json!({"code": 5, "msg": "no"}));
        scene.netctl("exec del net blue").failed(5);
        fs::remove_file(scene.plugins.join("second.DEL.fail")).unwrap();
        scene.told();
        // The namespace and the network's file are gone.
        lab.remove_netns(ns);
        fs::remove_file(scene.root.join("net.d/net.conflist")).unwrap();
        let said = scene.netctl("exec del net blue").ok();
        assert!(said.stderr.contains("taking the configuration of its ADD"), "{said:#?}");
        let told = scene.told();
        assert_eq!(calls(&told), ["second DEL", "first DEL"]);
        assert_eq!(told[0].config["prevResult"], result("second"));
        assert!(told[0].environment.ends_with("CNI_NETNS=/run/netns/blue"), "{told:?}");
        assert!(scene.results().is_empty());
        // Neither a file nor an entry.
        assert!(scene.netctl("exec del net blue").usage().contains("no network \"net\""));
        scene.conf("net.conflist", &list("1.0.0"));
        // An entry that is no JSON does not stop DEL.
        scene.netctl("exec add net /proc/self/ns/net -i x --container-id c9").ok();
        let file = scene.root.join("results/net-c9-x");
        fs::write(&file, "{").unwrap();
        let said = scene.netctl("exec del net /proc/self/ns/net -i x --container-id c9").ok();
        assert!(said.stderr.contains("going on without the cached result"), "{said:#?}");
        assert!(!file.exists());
    });
}

#[test]
fn a_changed_version_gets_the_result_in_its_words() {
    lab::run("a_changed_version_gets_the_result_in_its_words", |lab| {
        let (scene, _ns) = (recorders(lab, &["first", "second"]), lab.netns("blue"));
        scene.conf("net.conflist", &list("1.0.0"));
        let added = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]});
        scene.answer("second", "ADD", false, &added);
        scene.answer("first", "ADD", false, &added);
        scene.netctl("exec add net blue").ok();
        scene.told();
        scene.conf("net.conflist", &list("0.4.0"));
        scene.netctl("exec check net blue").ok();
        let old =
            json!({"cniVersion": "0.4.0", "dns": {}, "ips": [{"version": "4", "address": "10.0.0.2/24"}]});
        assert_eq!(scene.told()[0].config["prevResult"], old);
        // Below 0.4.0 there is no CHECK, and no result for DEL.
        scene.conf("net.conflist", &list("0.3.1"));
        scene.netctl("exec check net blue").failed(1);
        scene.netctl("exec del net blue").ok();
        let told = scene.told();
        assert_eq!(calls(&told), ["second DEL", "first DEL"]);
        assert_eq!(told[0].config.get("prevResult"), None);
    });
}

#[test]
fn check_and_gc_can_be_switched_off() {
    lab::run("check_and_gc_can_be_switched_off", |lab| {
        let scene = recorders(lab, &["first", "second"]);
        let mut conf = list("1.1.0");
        conf["disableCheck"] = "true".into();
        conf["disableGC"] = true.into();
        scene.conf("net.conflist", &conf);
        for line in ["exec check net nowhere", "exec gc net --yes", "exec gc net"] {
            let said = scene.netctl(line).ok();
            assert_eq!(said.stdout, "", "{line}");
            assert!(said.stderr.contains("nothing done: the list says disable"), "{line}: {said:#?}");
        }
        assert!(scene.told().is_empty());
        scene.conf("net.conflist", &list("1.1.0"));
        let unknown = scene.netctl("exec check net nowhere").failed(3);
        assert!(unknown["msg"].as_str().unwrap().contains("was not added"), "{unknown}");
    });
}

#[test]
fn status_asks_all_and_old_lists_for_their_version() {
    lab::run("status_asks_all_and_old_lists_for_their_version", |lab| {
        let scene = recorders(lab, &["first", "second"]);
        scene.conf("net.conflist", &list("1.1.0"));
        scene.netctl("exec status net").ok();
        let told = scene.told();
        assert_eq!(calls(&told), ["first STATUS", "second STATUS"]);
        assert_eq!(told[0].environment, "CNI_ARGS=\nCNI_CONTAINERID=\nCNI_IFNAME=\nCNI_NETNS=");
        assert_eq!(told[1].config, json!({"name": "net", "cniVersion": "1.1.0", "type": "second"}));
        scene.answer("first", "STATUS", true, &json!({"code": 50, "msg": "range is full"}));
        scene.netctl("exec status net").failed(50);
        assert_eq!(calls(&scene.told()), ["first STATUS", "second STATUS"]);

        scene.conf("net.conflist", &list("1.0.0"));
        let versions = json!({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]});
        scene.answer("first", "VERSION", false, &versions);
        scene.answer("second", "VERSION", true, &json!({"code": 100, "msg": "unknown CNI_COMMAND: VERSION"}));
        let said = scene.netctl("exec status net");
        assert!(
            said.stderr.contains("✗ second  VERSION  code 1: does not speak CNI 1.0.0, only 0.1.0"),
            "{said:#?}"
        );
        said.failed(1);
        fs::remove_file(scene.plugins.join("second")).unwrap();
        let missing = scene.netctl("exec status net").failed(7);
        assert!(missing["msg"].as_str().unwrap().contains("no such plugin in CNI_PATH"), "{missing}");
    });
}

fn gc_items(said: &Said) -> Vec<(String, String)> {
    let text = |item: &Value, key: &str| item[key].as_str().unwrap_or("-").to_owned();
    let document = said.json();
    assert_eq!((&document["apiVersion"], &document["kind"]), (&json!("netctl/v1"), &json!("GcPlan")));
    let items = document["items"].as_array().expect("items");
    items.iter().map(|item| (text(item, "container"), text(item, "reason"))).collect()
}

#[test]
fn gc_shows_first_and_removes_what_is_gone() {
    lab::run("gc_shows_first_and_removes_what_is_gone", |lab| {
        let scene = recorders(lab, &["first", "second"]);
        scene.conf("net.conflist", &list("1.1.0"));
        scene.conf("other.conflist", &json!({"name": "other", "plugins": [{"type": "first"}]}));
        let answer = json!({"cniVersion": "1.1.0"});
        scene.answer("first", "ADD", false, &answer);
        scene.answer("second", "ADD", false, &answer);
        let (_live, dead, file) = (lab.netns("live"), lab.netns("dead"), lab.netns("file"));
        for (network, name) in [("net", "live"), ("net", "dead"), ("net", "file"), ("other", "dead")] {
            scene.netctl(&format!("exec add {network} {name} --container-id {name}")).ok();
        }
        scene.netctl("exec add net live --container-id unknown").ok();
        forget_netns(&scene.root.join("results/net-unknown-eth0"));
        lab.remove_netns(dead);
        lab.remove_netns(file);
        // What a reboot leaves of `ip netns add` on a disk.
        fs::write("/run/netns/file", "").unwrap();
        scene.told();

        let said = scene.netctl("exec gc net").ok();
        let dead_and_file = "2 of 4 attachments: net-dead-eth0 (netns gone), net-file-eth0 (not a netns)\n";
        assert_eq!(said.stdout, format!("would remove {dead_and_file}"));
        assert!(said.stderr.contains("besides the 2 that stay; --yes does it"), "{said:#?}");
        let named = scene.netctl("exec gc net -o name").ok();
        assert_eq!(named.stdout, "net-dead-eth0\nnet-file-eth0\n");
        let items = gc_items(&scene.netctl("exec gc net -o json").ok());
        let expected = [("dead", "netns gone"), ("file", "not a netns"), ("live", "-"), ("unknown", "-")];
        assert_eq!(items, expected.map(|(container, why)| (container.to_owned(), why.to_owned())));
        assert!(scene.told().is_empty());
        assert_eq!(scene.results().len(), 5);

        let said = scene.netctl("exec gc net --yes").ok();
        assert_eq!(said.stdout, format!("removed {dead_and_file}"));
        let told = scene.told();
        let dels = ["second DEL", "first DEL", "second DEL", "first DEL", "first GC", "second GC"];
        assert_eq!(calls(&told), dels);
        let valid =
            json!([{"containerID": "live", "ifname": "eth0"}, {"containerID": "unknown", "ifname": "eth0"}]);
        for gc in &told[4..] {
            assert_eq!(gc.environment, "CNI_ARGS=\nCNI_CONTAINERID=\nCNI_IFNAME=\nCNI_NETNS=");
            assert_eq!(gc.config["cni.dev/valid-attachments"], valid);
            assert_eq!(gc.config["cni.dev/attachments"], valid);
        }
        assert_eq!(scene.results(), ["net-live-eth0", "net-unknown-eth0", "other-dead-eth0"]);

        // A cache that can't be read in full must not cost a live container its network.
        fs::write(scene.root.join("results/net-torn-eth0"), "{").unwrap();
        let said = scene.netctl("exec gc net --yes");
        assert_eq!(said.code, Some(3), "{said:#?}");
        assert!(scene.told().is_empty());
        fs::remove_file("/run/netns/file").unwrap();
    });
}

/// As libcni before 1.2 wrote it.
fn forget_netns(file: &Path) {
    let text = fs::read_to_string(file).expect("read the entry");
    let mut entry: Value = serde_json::from_str(&text).expect("a JSON entry");
    entry.as_object_mut().and_then(|entry| entry.remove("netns")).expect("it has a netns");
    fs::write(file, entry.to_string()).expect("write the entry");
}

#[test]
fn gc_tells_of_every_failure() {
    lab::run("gc_tells_of_every_failure", |lab| {
        let scene = recorders(lab, &["first", "second"]);
        scene.conf("net.conflist", &list("1.1.0"));
        scene.answer("first", "ADD", false, &json!({}));
        scene.answer("second", "ADD", false, &json!({}));
        let ns = lab.netns("a");
        scene.netctl("exec add net a").ok();
        lab.remove_netns(ns);
        scene.told();
        scene.answer("second", "DEL", true, &json!({"code": 5, "msg": "no"}));
        scene.answer("first", "GC", true, &json!({"code": 11, "msg": "later"}));
        let error = scene.netctl("exec gc net --yes").failed(5);
        assert_eq!(error["msg"], "second: no; first: later");
        assert_eq!(calls(&scene.told()), ["second DEL", "first GC", "second GC"]);
        assert_eq!(scene.results().len(), 1);
    });
}

#[test]
fn another_runtimes_attachment_is_found() {
    lab::run("another_runtimes_attachment_is_found", |lab| {
        let (scene, ns) = (recorders(lab, &["first"]), lab.netns("blue"));
        scene.conf("net.conf", &json!({"name": "net", "cniVersion": "1.0.0", "type": "first"}));
        scene.answer("first", "ADD", false, &json!({"cniVersion": "1.0.0"}));
        // A runtime gives its containers ids of its own.
        scene.netctl("exec add net netns:blue --container-id 3f2a9c").ok();
        // The same namespace by another path.
        let alias = lab.dir().join("alias");
        std::os::unix::fs::symlink(ns.path(), &alias).unwrap();
        for target in ["blue", "id:3f2", "3f2a9c", alias.to_str().unwrap()] {
            scene.told();
            scene.netctl(&format!("exec check net {target}")).ok();
            let environment = scene.told().remove(0).environment;
            assert!(environment.contains("CNI_CONTAINERID=3f2a9c\n"), "{target}: {environment}");
            assert!(environment.ends_with("CNI_NETNS=/run/netns/blue"), "{target}: {environment}");
        }
        scene.netctl("exec add net netns:blue --container-id 3f2b00").ok();
        let said = scene.netctl("exec del net id:3f2").usage();
        assert!(said.contains("several containers on network net: 3f2a9c, 3f2b00"), "{said}");
        assert!(scene.netctl("exec del net id:zzz").usage().contains("no such container"), "id:zzz");
        for id in ["3f2a", "3f2b"] {
            scene.netctl(&format!("exec del net id:{id}")).ok();
        }
        assert!(scene.results().is_empty());
    });
}

#[test]
fn mistakes_are_usage() {
    lab::run("mistakes_are_usage", |lab| {
        let (scene, _ns) = (recorders(lab, &["first"]), lab.netns("blue"));
        scene.conf("net.conf", &json!({"name": "net", "type": "first"}));
        fs::write(scene.root.join("net.d/broken.conflist"), "{\n \"name\": 1}").unwrap();
        #[track_caller]
        fn check(said: Said, expected: &str) {
            let said = said.usage();
            assert!(said.contains(expected), "{said}");
        }
        check(scene.netctl("exec add nonet blue"), "no network \"nonet\" in ");
        check(scene.netctl("exec add nonet blue"), "broken.conflist:2:10: name: 1 is not a string");
        check(scene.netctl("exec add net red"), "/run/netns/red: netns gone");
        check(scene.netctl("exec add net /etc/passwd"), "/etc/passwd: not a netns");
        check(scene.netctl("exec add net id:1"), "names no namespace");
        check(scene.netctl("exec add net blue --ifname a/b"), "must not contain");
        check(scene.netctl("exec add net blue --args x"), "--args: \"x\" is not KEY=VALUE");
        check(
            scene.netctl_with(&[("CNI_ARGS", "x=")], "exec add net blue"),
            "CNI_ARGS: \"x=\" is not KEY=VALUE",
        );
        check(scene.netctl_with(&[("CAP_ARGS", "[]")], "exec add net blue"), "CAP_ARGS: ");
        check(scene.netctl_with(&[("CNI_IFNAME", "a:b")], "exec add net blue"), "CNI_IFNAME: \"a:b\"");
        assert!(scene.told().is_empty());
    });
}

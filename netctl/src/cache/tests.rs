use std::{env, os::unix::fs::PermissionsExt};

use cni::names::Attachment;
use serde_json::json;

use super::*;

/// A cache that goes with the test.
struct Own(PathBuf, Cache);

impl Own {
    fn new(name: &str) -> Self {
        let dir = env::temp_dir().join(format!("netctl-cache-{name}-{}", process::id()));
        let cache = Cache::new(dir.join("results"));
        Self(dir, cache)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.0.join("results")).unwrap();
        fs::write(self.0.join("results").join(name), text).unwrap();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn attachment(network: &str, container: &str) -> Attachment {
    Attachment {
        network: network.parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn full() -> Entry {
    Entry {
        attachment: attachment("net", "c1"),
        netns: Some("/run/netns/c1".to_owned()),
        config: b"{\"name\": \"net\"}\n".to_vec(),
        args: vec![("IP".to_owned(), "10.0.0.2".to_owned()), ("K8S_POD_NAME".to_owned(), "a&b".to_owned())],
        capability_args: object(json!({"portMappings": [{"hostPort": 8080}], "mac": "02:00:00:00:00:01"})),
        result: Some(
            json!({"dns": {}, "cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.2/24"}]}),
        ),
    }
}

/// Byte for byte what `json.Marshal` makes of `cachedInfo`: order of the struct, sorted maps, HTML escaped.
const FULL: &str = concat!(
    r#"{"kind":"cniCacheV1","containerId":"c1","config":"eyJuYW1lIjogIm5ldCJ9Cg==","ifName":"eth0","networkName":"net","#,
    r#""netns":"/run/netns/c1","cniArgs":[["IP","10.0.0.2"],["K8S_POD_NAME","a\u0026b"]],"#,
    r#""capabilityArgs":{"mac":"02:00:00:00:00:01","portMappings":[{"hostPort":8080}]},"#,
    r#""result":{"cniVersion":"0.4.0","dns":{},"ips":[{"address":"10.0.0.2/24","version":"4"}]}}"#
);

#[test]
fn an_entry_is_written_as_libcni_writes_it() {
    let own = Own::new("written");
    own.1.store(&full()).unwrap();
    let file = own.0.join("results/net-c1-eth0");
    assert_eq!(fs::read_to_string(&file).unwrap(), FULL);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(own.0.join("results")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(own.1.entry(&attachment("net", "c1")).unwrap(), Some(full()));

    let bare = Entry { netns: None, args: vec![], capability_args: Map::new(), ..full() };
    own.1.store(&bare).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(!["netns", "cniArgs", "capabilityArgs"].iter().any(|absent| text.contains(absent)), "{text}");
    assert_eq!(own.1.entry(&attachment("net", "c1")).unwrap(), Some(bare));

    own.1.remove(&attachment("net", "c1")).unwrap();
    own.1.remove(&attachment("net", "c1")).unwrap();
    assert_eq!(own.1.entry(&attachment("net", "c1")).unwrap(), None);
    // Nothing but the two directories is left, not even of what made the writing atomic.
    let left: Vec<_> = fs::read_dir(&own.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["results"]);
    assert_eq!(fs::read_dir(own.0.join("results")).unwrap().count(), 0);
}

#[test]
fn old_formats_are_read() {
    let own = Own::new("old");
    // libcni before 0.8: the result alone.
    own.write(
        "net-old-eth0",
        r#"{"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.0.0.2/24"}]}"#,
    );
    let entry = own.1.entry(&attachment("net", "old")).unwrap().unwrap();
    assert_eq!(entry.add_result().unwrap().unwrap().ips.len(), 1);
    assert_eq!((entry.config, entry.netns), (vec![], None));
    // Before 1.2 there was no netns; null is what Go writes for a nil slice.
    own.write(
        "net-c2-eth0",
        r#"{"kind":"cniCacheV1","containerId":"c2","config":null,"ifName":"eth0","networkName":"net","cniArgs":null,"unknown":1}"#,
    );
    let entry = own.1.entry(&attachment("net", "c2")).unwrap().unwrap();
    assert_eq!(entry.result, None);
    let listing = own.1.list().unwrap();
    assert_eq!(listing.entries, [entry]);
    assert!(listing.unreadable.is_empty());
}

/// As podman 4.3.1 left it, with the list as text.
const PODMANS: &str = concat!(
    r#"{"kind":"cniCacheV1","containerId":"9da88ff65a8c","config":"eyJuYW1lIjogIm5ldCJ9Cg==","ifName":"eth0","#,
    r#""networkName":"tnet","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAME","elegant_rosalind"]],"#,
    r#""capabilityArgs":{"aliases":{"tnet":["9da88ff65a8c"]},"#,
    r#""portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]},"#,
    r#""result":{"cniVersion":"0.4.0","dns":{},"interfaces":[{"mac":"4a:f0:b1:b4:74:6a","name":"cni9"},"#,
    r#"{"mac":"a6:c0:2a:51:3d:8e","name":"vethdb5cf6c8"},"#,
    r#"{"mac":"12:fd:42:13:ba:2b","name":"eth0","sandbox":"/run/netns/netns-1fada4e4"}],"#,
    r#""ips":[{"address":"10.77.0.2/24","gateway":"10.77.0.1","interface":2,"version":"4"}]}}"#
);

#[test]
fn podmans_entry_comes_back_as_it_was() {
    let own = Own::new("podman");
    own.write("tnet-9da88ff65a8c-eth0", PODMANS);
    let entry = own.1.entry(&attachment("tnet", "9da88ff65a8c")).unwrap().unwrap();
    assert_eq!(entry.netns, None);
    assert_eq!(entry.namespace(), Some("/run/netns/netns-1fada4e4"));
    own.1.store(&entry).unwrap();
    // podman's own structs stand behind this one value; for libcni it is a map like the others.
    let sorted = r#"{"containerPort":80,"hostPort":8080,"protocol":"tcp"}"#;
    let expected = PODMANS.replace(r#"{"hostPort":8080,"containerPort":80,"protocol":"tcp"}"#, sorted);
    assert_eq!(fs::read_to_string(own.0.join("results/tnet-9da88ff65a8c-eth0")).unwrap(), expected);
}

#[test]
fn what_cannot_be_read_is_named() {
    let own = Own::new("unreadable");
    own.write("net-c1-eth0", "{");
    own.write("net-c2-eth0", r#"{"kind": "cniCacheV9"}"#);
    own.write(
        "net-c3-eth0",
        r#"{"kind":"cniCacheV1","containerId":"c/3","ifName":"eth0","networkName":"net"}"#,
    );
    own.write(
        "net-c4-eth0",
        r#"{"kind":"cniCacheV1","containerId":"c4","config":"?","ifName":"eth0","networkName":"net"}"#,
    );
    let dir = own.0.join("results");
    let dir = dir.display();
    let expected = [
        format!("read {dir}/net-c1-eth0: EOF while parsing an object at line 1 column 1"),
        format!("read {dir}/net-c2-eth0: kind \"cniCacheV9\" is not cniCacheV1"),
        format!(
            "read {dir}/net-c3-eth0: containerId: \"c/3\": must start with a letter or a digit and hold only letters, digits, '_', '.' and '-'"
        ),
        format!("read {dir}/net-c4-eth0: config: Invalid symbol 63, offset 0."),
    ];
    let listing = own.1.list().unwrap();
    let said: Vec<_> = listing.unreadable.iter().map(ToString::to_string).collect();
    assert_eq!(said, expected);
    assert_eq!(own.1.entry(&attachment("net", "c1")).unwrap_err().to_string(), expected[0]);
}

#[test]
fn a_file_name_may_be_anothers() {
    let own = Own::new("shared");
    // net-a + b and net + a-b share a file name in libcni's scheme.
    own.1.store(&Entry { attachment: attachment("net-a", "b"), ..full() }).unwrap();
    assert_eq!(own.1.entry(&attachment("net", "a-b")).unwrap(), None);
    assert!(own.1.entry(&attachment("net-a", "b")).unwrap().is_some());
}

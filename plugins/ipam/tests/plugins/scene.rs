//! What these tests share: a network's configuration, calls for it, and a look at its leases.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use testenv::{lab::Lab, plugin::PluginCall};

/// Where the reference's binaries are (Debian's containernetworking-plugins).
pub(crate) const PEERS: &str = "/usr/lib/cni";
pub(crate) const NETWORK: &str = "/var/lib/cni/networks/net";

/// A lab in which what host-local leaves by design may stay: no lease, but where round robin stands.
pub(crate) fn run(name: &'static str, body: impl FnOnce(&Lab) + Send + 'static) {
    testenv::lab::run(name, |lab| {
        for left in ["dir /var/lib/cni/networks", "dir /run/tenon", "lock", "last_reserved_ip"] {
            lab.allow(left);
        }
        lab.netns("c");
        body(lab);
    });
}

/// Network `net` with one range set a subnet.
pub(crate) fn config(subnets: &[&str]) -> Value {
    let sets: Vec<_> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": {"type": "host-local", "ranges": sets}})
}

/// Our host-local.
pub(crate) fn ours(lab: &Lab, config: &Value) -> PluginCall {
    lab.plugin("host-local").config(config).netns_path("/run/netns/c")
}

/// The reference's host-local. Skips the test without it.
pub(crate) fn theirs(lab: &Lab, config: &Value) -> PluginCall {
    let mut config = config.clone();
    // Debian's is of before 1.1.0.
    config["cniVersion"] = json!("1.0.0");
    lab.peer(Path::new(PEERS), "host-local").config(&config).netns_path("/run/netns/c")
}

/// The addresses of a result, without prefix lengths.
#[track_caller]
pub(crate) fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap_or_else(|| panic!("no ips in {result}"));
    let address = |ip: &Value| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
    ips.iter().map(address).collect()
}

/// All files of the network but the lock and where round robin stands: the leases and their owners, `c1 eth0`.
pub(crate) fn leases() -> BTreeMap<String, String> {
    let entries = fs::read_dir(NETWORK).into_iter().flatten().map(Result::unwrap);
    let leases = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read_to_string(entry.path()).unwrap().replace("\r\n", " "))
    });
    leases.filter(|(name, _)| name != "lock" && !name.starts_with("last_reserved_ip.")).collect()
}

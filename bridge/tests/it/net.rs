//! What these tests share: configurations, labs in which only what stays by design may stay, attached containers.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::{Value, json};
use testenv::{lab, lab::Lab, ns::Ns, plugin::PluginCall, wait};

const SETTLE: Duration = Duration::from_secs(10);

/// A dual-stack network with a default gateway on bridge `cni0`, with `more` over it.
pub(crate) fn dual_stack(more: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00:1::/64"}]],
        },
    });
    merge(&mut config, more);
    config
}

/// A network without addresses.
pub(crate) fn layer2(more: Value) -> Value {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "cni0"});
    merge(&mut config, more);
    config
}

/// A network whose one container has these addresses.
pub(crate) fn fixed(addresses: &[&str], more: Value) -> Value {
    let addresses: Vec<_> = addresses.iter().map(|address| json!({"address": address})).collect();
    let mut config = layer2(json!({"ipam": {"type": "static", "addresses": addresses}}));
    merge(&mut config, more);
    config
}

/// As [`dual_stack`], of another network on a bridge of its own, `cni1`.
pub(crate) fn other_network(more: Value) -> Value {
    let mut config = dual_stack(json!({
        "name": "other",
        "bridge": "cni1",
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.2.0.0/16"}], [{"subnet": "fd00:2::/64"}]],
        },
    }));
    merge(&mut config, more);
    config
}

/// A network whose ADD goes every way there is.
pub(crate) fn everything() -> Value {
    dual_stack(json!({"ipMasq": true, "macspoofchk": true, "hairpinMode": true, "mtu": 1400}))
}

/// Everything an ADD makes once a host goes, so that the next one makes it again.
pub(crate) fn forget_the_network(lab: &Lab) {
    for forget in [
        "ip link del cni0",
        "nft delete table inet tenon",
        "nft delete table bridge tenon",
        "rm -rf /run/tenon /var/lib/cni/networks",
    ] {
        lab.exec(&forget.split(' ').collect::<Vec<_>>());
    }
}

/// The keys of `more` replace those of `config`.
fn merge(config: &mut Value, more: Value) {
    let (Value::Object(config), Value::Object(more)) = (config, more) else { panic!("not objects") };
    config.extend(more);
}

/// The same configuration with the result of its ADD, as the runtime sends it with CHECK and DEL.
pub(crate) fn with_result(mut config: Value, result: &Value) -> Value {
    config["prevResult"] = result.clone();
    config
}

/// A lab in which may stay at the end what stays by design: the bridge, forwarding, where round robin stands, the
/// suite's tables without an element. Nothing else: no link, lease, record, element.
pub(crate) fn run(name: &'static str, body: impl FnOnce(&Lab) + Send + 'static) {
    lab::run(name, |lab| {
        lab.allow_bridge("cni0");
        lab.allow_bridge("cni1");
        for network in ["net", "other"] {
            lab.allow_state(network);
        }
        // One lock file of the whole suite.
        lab.allow("file /run/tenon/lock");
        lab.allow_tables();
        body(lab);
        assert_nothing_of_ours_is_left(lab);
    });
}

/// Looks into what the lab's own comparison lets pass.
#[track_caller]
pub(crate) fn assert_nothing_of_ours_is_left(lab: &Lab) {
    assert_eq!(elements(lab), Vec::<String>::new(), "elements");
    assert_eq!(leases("net"), BTreeMap::new(), "leases");
    assert_eq!(leases("other"), BTreeMap::new(), "leases");
    for dir in ["/run/tenon/attach", "/run/tenon/ipam"] {
        let left: Vec<_> =
            fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // A namespace that is gone takes its links along in the kernel's own time.
    let ports = || lab.exec(&["ip", "-o", "link", "show", "master", "cni0"]).stdout;
    wait::poll(SETTLE, || ports().is_empty().then_some(())).unwrap_or_else(|| panic!("ports: {}", ports()));
}

/// The elements of the suite's sets and maps, as nft prints them.
pub(crate) fn elements(lab: &Lab) -> Vec<String> {
    let lines = lab.host().snapshot().lines;
    let ours = lines.into_iter().filter(|line| line.contains(" tenon : ") && line.contains("elements = "));
    ours.collect()
}

/// The leases of a network and their owners, `c1 eth0`.
pub(crate) fn leases(network: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(Path::new("/var/lib/cni/networks").join(network)).into_iter().flatten();
    let leases = entries.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).unwrap().replace("\r\n", " "))
    });
    leases.filter(|(name, _)| name != "lock" && !name.starts_with("last_reserved_ip.")).collect()
}

/// A container on a network.
pub(crate) struct Container {
    pub(crate) ns: Ns,
    pub(crate) call: PluginCall,
    pub(crate) config: Value,
    pub(crate) result: Value,
}

/// Makes the namespace `name` and attaches it.
#[track_caller]
pub(crate) fn attach(lab: &Lab, config: &Value, name: &str) -> Container {
    let ns = lab.netns(name);
    let call = call(lab, config, &ns);
    let result = call.add().ok();
    Container { ns, call, config: config.clone(), result }
}

/// A call for the container of that namespace, which has its name.
pub(crate) fn call(lab: &Lab, config: &Value, ns: &Ns) -> PluginCall {
    lab.plugin("bridge").config(config).container(ns.name()).netns(ns)
}

impl Container {
    /// DEL as a runtime does it.
    #[track_caller]
    pub(crate) fn detach(&self) {
        self.del_call().del().ok();
    }

    pub(crate) fn del_call(&self) -> PluginCall {
        self.call.clone().config(&with_result(self.config.clone(), &self.result))
    }

    /// CHECK with the result of the ADD.
    pub(crate) fn check(&self) -> testenv::plugin::Reply {
        self.del_call().check()
    }

    /// The address of one family, without its prefix length.
    #[track_caller]
    pub(crate) fn ip(&self, index: usize) -> std::net::IpAddr {
        let address = self.result["ips"][index]["address"].as_str().unwrap();
        address.split('/').next().unwrap().parse().unwrap()
    }

    /// The name of the host's end.
    #[track_caller]
    pub(crate) fn host_end(&self) -> String {
        self.result["interfaces"][1]["name"].as_str().unwrap().to_owned()
    }
}

/// What `ip -j -d` says, inside.
#[track_caller]
pub(crate) fn ip(ns: &Ns, words: &str) -> Value {
    let argv: Vec<_> = ["ip", "-j", "-d"].into_iter().chain(words.split(' ')).collect();
    let text = ns.exec(&argv).ok();
    // Some versions print nothing where there is nothing.
    if text.trim().is_empty() { json!([]) } else { serde_json::from_str(&text).unwrap() }
}

/// The words of an error.
#[track_caller]
pub(crate) fn message(error: &Value) -> &str {
    error["msg"].as_str().unwrap()
}

//! A node with a bridged network made by our plugins, and what netctl says of it.

use std::path::Path;

use serde_json::{Value, json};
use testenv::{daemon::Daemon, lab::Lab, ns::Ns, plugin::built};

use crate::scene::Scene;

/// Network `ovl` on bridge `cni0`, and its containers.
pub(crate) struct Node {
    pub(crate) scene: Scene,
}

impl Node {
    /// No container yet.
    pub(crate) fn new(lab: &Lab) -> Self {
        let node = Self { scene: Scene::of(lab, &[built()]) };
        node.conf(&bridged());
        lab.allow_bridge("cni0");
        lab.allow_tables();
        for what in ["networks", "last_reserved_ip.0", "lock", "/run/tenon"] {
            lab.allow(what);
        }
        node
    }

    /// With containers `c1` and `c2`.
    pub(crate) fn running(lab: &Lab) -> (Self, [Ns; 2]) {
        let node = Self::new(lab);
        let containers = ["c1", "c2"].map(|name| lab.netns(name));
        node.add("ovl", "c1");
        node.add("ovl", "c2");
        (node, containers)
    }

    pub(crate) fn conf(&self, conf: &Value) {
        self.scene.conf("10-ovl.conflist", conf);
    }

    pub(crate) fn add(&self, network: &str, container: &str) {
        self.scene.netctl(&format!("exec add {network} {container} --container-id {container}")).ok();
    }

    /// Nothing is to stay, whatever the test broke.
    pub(crate) fn del(&self, network: &str, container: &str) {
        self.scene.netctl(&format!("exec del {network} {container} --container-id {container}")).ok();
    }

    pub(crate) fn leave(&self) {
        self.del("ovl", "c1");
        self.del("ovl", "c2");
    }

    /// The reply of a verb as a document of that kind.
    #[track_caller]
    pub(crate) fn items(&self, line: &str, kind: &str) -> Vec<Value> {
        let said = self.scene.netctl(&format!("{line} -o json"));
        let reply = said.json();
        assert_eq!((&reply["apiVersion"], &reply["kind"]), (&json!("netctl/v1"), &json!(kind)), "{said:#?}");
        reply["items"].as_array().expect("items").clone()
    }
}

/// What the doctor says.
impl Node {
    pub(crate) fn findings(&self) -> Vec<Value> {
        self.items("doctor --node n1", "Findings")
    }

    #[track_caller]
    pub(crate) fn is_healthy(&self) {
        let said = self.scene.netctl("doctor");
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert_eq!(self.findings(), Vec::<Value>::new());
    }

    /// The finding of that code is at these places, and it is the only one that is no mere information.
    #[track_caller]
    pub(crate) fn finds(&self, code: &str, place: &Value) -> Value {
        let findings = self.findings();
        let mut bad: Vec<_> = findings.iter().filter(|found| found["severity"] != "info").collect();
        if bad.is_empty() {
            bad = findings.iter().collect();
        }
        assert_eq!(bad.len(), 1, "{findings:#?}");
        assert_eq!(bad[0]["code"], code, "{findings:#?}");
        assert_eq!(bad[0]["where"]["node"], "n1");
        for (key, expected) in place.as_object().expect("an object") {
            assert_eq!(&bad[0]["where"][key], expected, "{:#}", bad[0]);
        }
        bad[0].clone()
    }

    #[track_caller]
    pub(crate) fn fix(&self) {
        let said = self.scene.netctl("doctor --fix --yes");
        assert_eq!(said.code, Some(0), "{said:#?}");
        self.is_healthy();
    }

    pub(crate) fn host_link(&self, container: &str) -> String {
        let items = self.items("ps", "Attachments");
        let item = items.iter().find(|item| item["container"] == container).expect("it is attached");
        item["hostInterface"].as_str().expect("a veth").to_owned()
    }
}

/// A name server on `cni0` that knows `db.example`, for what is started in that container by `ip netns exec`.
pub(crate) fn name_server(lab: &Lab, container: &str) -> Daemon {
    lab.needs_program("dnsmasq", "dnsmasq-base");
    lab.empty(Path::new("/etc/netns"));
    lab.write(format!("/etc/netns/{container}/resolv.conf"), "nameserver 10.9.0.1\nsearch example\n");
    let line = "dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file --user=root --no-resolv --no-hosts \
                --listen-address=10.9.0.1 --bind-interfaces --local=/example/ --address=/db.example/10.9.0.3";
    lab.daemon(lab.host(), &line.split_whitespace().collect::<Vec<_>>())
}

pub(crate) fn bridged() -> Value {
    json!({"name": "ovl", "cniVersion": "1.1.0", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": {
            "type": "host-local", "dataDir": "/var/lib/cni/networks", "ranges": [[{"subnet": "10.9.0.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }},
    ]})
}

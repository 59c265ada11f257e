//! The host's settings that decide whether containers' packets pass.

use std::collections::BTreeMap;

use kernel::{link::Link, sysctl};

/// Values of /proc/sys by path; those that do not exist are missing.
#[derive(Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, String>,
}

impl Settings {
    pub(super) fn read(links: &[Link]) -> Self {
        let of_links =
            links.iter().map(|link| link.name.as_str()).chain(["all"]).map(|name| conf(name, "rp_filter"));
        let keys = of_links.chain(GLOBAL.map(str::to_owned));
        let values = keys.filter_map(|key| sysctl::read(&key).ok().map(|value| (key, value)));
        Self { values: values.collect() }
    }

    /// The value of `net/ipv4/ip_forward` and the like.
    pub fn value(&self, path: &str) -> Option<&str> {
        self.values.get(path).map(String::as_str)
    }

    /// What counts for packets that come in by the link: the stricter of its own and that of all (ip-sysctl.rst).
    pub fn rp_filter(&self, link: &str) -> u8 {
        let value = |name: &str| self.value(&conf(name, "rp_filter"))?.parse::<u8>().ok();
        value(link).unwrap_or_default().max(value("all").unwrap_or_default())
    }
}

/// The path of an IPv4 setting of a link.
pub fn conf(link: &str, key: &str) -> String {
    sysctl::conf(kernel::route::Family::V4, link, key)
}

const GLOBAL: [&str; 4] = [
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
];

//! The leases that a saved report calls leaked. Knows its JSON, and nothing of the node as it is now.

use std::{collections::BTreeSet, fs, net::IpAddr, path::Path};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use super::{LEAKED, Lease};
use crate::exit::Failure;

/// A lease by whose it was: the same address with another holder is another lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Named {
    pub(super) network: String,
    pub(super) address: IpAddr,
    pub(super) container: Option<String>,
    pub(super) ifname: Option<String>,
}

impl Named {
    pub(super) fn of(lease: &Lease) -> Self {
        let Lease { network, address, container, ifname, state: _ } = lease.clone();
        Self { network, address, container, ifname }
    }
}

/// Those of `node` in a file that `ipam check -o json` or `report` wrote.
pub(super) fn read(file: &Path, node: &str) -> Result<BTreeSet<Named>, Failure> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let document: Value =
        serde_json::from_slice(&bytes).with_context(|| format!("read a report in {}", file.display()))?;
    let named = leaked(&document, node).with_context(|| format!("read a report in {}", file.display()))?;
    let what = "is not what `netctl ipam check -o json` or `netctl report` writes";
    named.ok_or_else(|| Failure::Usage(format!("{} {what}", file.display())))
}

/// None if the document is of another kind.
fn leaked(document: &Value, node: &str) -> serde_json::Result<Option<BTreeSet<Named>>> {
    let Some(items) = document["items"].as_array() else { return Ok(None) };
    let of_node = items.iter().filter(|item| item["node"] == node);
    let leases: Vec<&Value> = match document["kind"].as_str() {
        Some("Leases") => of_node.collect(),
        Some("Report") => of_node.filter_map(|item| item["leases"].as_array()).flatten().collect(),
        _ => return Ok(None),
    };
    let leaked = leases.into_iter().filter(|lease| lease["state"] == LEAKED);
    leaked.map(Named::deserialize).collect::<serde_json::Result<_>>().map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_report_names() {
        #[track_caller]
        fn check(document: &Value, expected: Option<&[&str]>) {
            let named = leaked(document, "n1").unwrap();
            let addresses = named.map(|it| it.iter().map(|it| it.address.to_string()).collect::<Vec<_>>());
            assert_eq!(addresses, expected.map(|it| it.iter().map(|&it| it.to_owned()).collect()));
        }
        let lease = |address: &str, state: &str| json!({"network": "ovl", "address": address, "container": "c", "ifname": null, "state": state, "node": "n1"});
        let mut far = lease("10.9.0.5", LEAKED);
        far["node"] = json!("n2");
        let leases = json!([lease("10.9.0.4", LEAKED), lease("10.9.0.3", "live"), far]);
        check(&json!({"kind": "Leases", "items": leases}), Some(&["10.9.0.4"]));
        check(&json!({"kind": "Leases", "items": []}), Some(&[]));
        let report =
            json!([{"node": "n2", "leases": leases}, {"node": "n1", "leases": [lease("fd00::4", LEAKED)]}]);
        check(&json!({"kind": "Report", "items": report}), Some(&["fd00::4"]));
        check(&json!({"kind": "Ranges", "items": leases}), None);
        check(&json!([1]), None);
        let broken = json!({"kind": "Leases", "items": [{"node": "n1", "state": LEAKED, "network": "ovl", "address": "x"}]});
        assert!(leaked(&broken, "n1").is_err());
    }
}

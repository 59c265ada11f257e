//! What the tests have in common: attachments, plans, and `nft` to look from outside.

use std::{
    io::Write,
    net::IpAddr,
    process::{Command, Stdio},
};

use attach::ruleset::{masquerade::Masquerade, owner::Owner, plan::Plan};
use cni::names::Attachment;
use ipnetwork::IpNetwork;
use kernel::nft::{
    Nft,
    batch::Batch,
    table::{Family, Table},
};
use testenv::lab::Lab;

pub(crate) const INET: Table<'_> = Table { family: Family::Inet, name: "tenon" };
const BRIDGE: Table<'_> = Table { family: Family::Bridge, name: "tenon" };

pub(crate) fn attachment(network: &str, container: &str) -> Attachment {
    Attachment {
        network: network.parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

/// A container at `addresses` (`10.88.0.5/16`) behind `iif`, masqueraded except towards its own subnets.
pub(crate) fn masquerade(owner: &Attachment, iif: &str, addresses: &[&str]) -> Plan {
    let networks: Vec<IpNetwork> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let addresses: Vec<IpAddr> = networks.iter().map(IpNetwork::ip).collect();
    let owner = Owner::of(owner);
    Plan::new().masquerade(&Masquerade { iif, addresses: &addresses, exempt: &networks, owner: &owner })
}

pub(crate) fn nft(arguments: &[&str], input: &str) -> String {
    let mut child =
        Command::new("nft").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft {arguments:?} took exception to\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn listing(lab: &Lab) -> String {
    lab.needs_program("nft", "nftables");
    nft(&["list", "ruleset"], "")
}

/// The tables stay by design; the lab wants nothing left.
pub(crate) fn remove_tables(nft: &mut Nft) {
    for table in [INET, BRIDGE] {
        let mut batch = Batch::new();
        batch.remove_table(table);
        nft.commit(batch).unwrap();
    }
}

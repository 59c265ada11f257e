//! `loopback`: the container's `lo` is up.
//!
//! Container runtimes call it alone, for a network of its own, beside the container's other networks. It takes no options and
//! no notice of `CNI_IFNAME`, as in the reference.

use anyhow::Context;
use attach::{check::failed, container::Container};
use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::{AddResult, Interface, IpConfig},
    run::Plugin,
};
use kernel::{address, link};

/// The plugin of type `loopback`.
#[derive(Debug)]
pub struct Loopback;

impl Plugin for Loopback {
    const NAME: &'static str = "loopback";

    /// Answers with the result before it in a chain, or else with `lo` and the addresses that the kernel gave it.
    fn add(request: &Request, _: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        let previous = request.prev_result()?;
        let mut container = Container::open(netns)?;
        let lo = link::by_name(&mut container.netlink, LOOPBACK)?;
        container.netlink.execute(link::change(&lo.dev()).up().request())?;
        if let Some(previous) = previous {
            return Ok(previous);
        }
        let addresses = address::list(&mut container.netlink, &lo.dev())?;
        let ip = |address: address::Address| IpConfig {
            interface: Some(0),
            address: address.network,
            gateway: None,
        };
        let interface = Interface {
            name: LOOPBACK.to_owned(),
            mac: lo.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            mtu: Some(lo.mtu),
            sandbox: netns.as_str().to_owned(),
            ..Interface::default()
        };
        let ips = addresses.into_iter().map(ip).collect();
        Ok(AddResult { interfaces: vec![interface], ips, ..AddResult::default() })
    }

    fn del(_: &Request, _: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
        let Some(mut container) = Container::open_if_there(netns)? else { return Ok(()) };
        container.netlink.execute(link::change_named(LOOPBACK).down().request()).context("in the container")
    }

    fn check(_: &Request, _: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
        let mut container = Container::open(netns)?;
        if link::by_name(&mut container.netlink, LOOPBACK)?.is_up() {
            return Ok(());
        }
        Err(failed(format!("{LOOPBACK} is down")).into())
    }

    /// Nothing of it outlives the namespace.
    fn gc(_: &Request, _: &ValidAttachments) -> anyhow::Result<()> {
        Ok(())
    }

    fn status(_: &Request) -> anyhow::Result<()> {
        Ok(())
    }
}

const LOOPBACK: &str = "lo";

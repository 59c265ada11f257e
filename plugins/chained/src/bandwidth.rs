//! `bandwidth`: no more than so many bits a second to the container, and from it.
//!
//! The host's end of the veth shapes what it sends, which is what the container receives. What the container sends is
//! received there, where nothing can be shaped: it is led through a link of its own, an ifb, that can.

use std::{fmt::Write, time::Duration};

use anyhow::bail;
use attach::{
    check::failed, container::Container, failures::Failures, record::Records, ruleset::plan::Plan,
    supposed::Supposed,
};
use cni::{
    error::Error,
    names::{Attachment, NetnsPath, NetworkName},
    request::{Request, ValidAttachments},
    result::{AddResult, Interface},
    run::Plugin,
};
use kernel::{
    link::{self, Dev, Link, Mtu},
    netlink::{Netlink, Request as KernelRequest},
    qdisc::{
        self, TokenBucket,
        split::{self, Peer, Split},
    },
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use crate::stale::detach_each;

pub(crate) mod config;

use self::config::{Config, Limit};

/// The plugin of type `bandwidth`.
#[derive(Debug)]
pub struct Bandwidth;

/// The record's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shaped {
    /// The host's end of the container's veth.
    host_link: String,
    /// The link that the container's packets are led through.
    ifb: Option<String>,
}

/// What an ADD of this configuration would have written down, if anything: for who writes it again.
pub fn supposed(
    request: &Request,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> anyhow::Result<Option<Supposed>> {
    let config = Config::new(request)?;
    if config.is_empty() {
        return Ok(None);
    }
    let host_link = host_end(&mut Netlink::open()?, attachment, netns)?.name;
    let shaped = Shaped { host_link, ifb: config.egress.map(|_| ifb_name(attachment)) };
    Ok(Some(Supposed::new(NAME, &shaped, Plan::new())?))
}

impl Plugin for Bandwidth {
    const NAME: &'static str = NAME;

    /// Without limits the result passes through, and nothing is done.
    fn add(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        let config = Config::new(request)?;
        let mut result = request.required_prev_result()?;
        if config.is_empty() {
            return Ok(result);
        }
        let mut host = Netlink::open()?;
        let veth = host_end(&mut host, attachment, netns)?;
        let ifb = config.egress.map(|_| ifb_name(attachment));
        let hook = match &ifb {
            Some(ifb) => Hook::of(&mut host, &veth.dev(), ifb)?,
            None => Hook::Absent,
        };
        if let Hook::Foreign(kind) = &hook {
            bail!("somebody else has a hook of kind {kind} on {}, where egressRate needs its own", veth.name);
        }
        let shaped = Shaped { host_link: veth.name.clone(), ifb };
        let records = records(&attachment.network);
        records.begin(attachment, &shaped)?;
        let made = shape(&mut host, &config, &veth, &hook, attachment);
        let made =
            made.and_then(|made| Ok(records.complete(attachment).map(|()| made)?)).inspect_err(|_| {
                if let Err(err) = take_back(attachment, &shaped) {
                    log::error!("{attachment}: after a failed ADD: {err:#}");
                }
            })?;
        result.interfaces.extend(made.map(|ifb| Interface {
            name: ifb.name.clone(),
            mac: ifb.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            mtu: Some(ifb.mtu),
            ..Interface::default()
        }));
        Ok(result)
    }

    fn del(_: &Request, attachment: &Attachment, _: Option<&NetnsPath>) -> anyhow::Result<()> {
        let records = records(&attachment.network);
        if let Some((_, shaped)) = records.find::<Shaped>(attachment)? {
            return take_back(attachment, &shaped);
        }
        // An ADD that was killed may have left one that can't be read, or an empty directory.
        records.forget(attachment)?;
        let mut host = Netlink::open()?;
        for name in [ifb_name(attachment), name_of_the_go_plugin(attachment)] {
            remove_ifb(&mut host, &name)?;
        }
        Ok(())
    }

    fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
        let config = Config::new(request)?;
        request.required_prev_result()?;
        if config.is_empty() {
            return Ok(());
        }
        let mut host = Netlink::open()?;
        let veth = host_end(&mut host, attachment, netns)?;
        if let Some(limit) = config.ingress {
            Shaping::new(&config, limit, Direction::Ingress, veth.mtu).check(&mut host, &veth.dev())?;
        }
        if let Some(limit) = config.egress {
            let name = ifb_name(attachment);
            let ifb = link::find(&mut host, &name)?.ok_or_else(|| failed(format!("{name} is gone")))?;
            Shaping::new(&config, limit, Direction::Egress, veth.mtu).check(&mut host, &ifb.dev())?;
            if Hook::of(&mut host, &veth.dev(), &name)? != Hook::Ours {
                return Err(failed(format!("{} does not lead to {name}", veth.name)).into());
            }
        }
        Ok(())
    }

    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        detach_each(NAME, request, valid, &mut failures, |attachment, shaped: Shaped| {
            take_back(attachment, &shaped)
        });
        failures.into_result()
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        Config::new(request)?;
        Ok(())
    }
}

/// The other end of the container's interface. Code 7 where that is no veth with an end here.
fn host_end(host: &mut Netlink, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<Link> {
    let mut container = Container::open(netns)?;
    let inside = link::by_name(&mut container.netlink, attachment.ifname.as_str())?;
    let peer = match inside.parent.filter(|_| inside.is_veth()) {
        // Of the same number there may be another link here.
        Some(index) => link::by_index(host, index).ok().filter(Link::is_veth),
        None => None,
    };
    peer.filter(|peer| peer.parent == Some(inside.index)).ok_or_else(|| {
        let why = "has no end on the host, where it could be limited";
        Error::invalid_config("CNI_IFNAME", &attachment.ifname, why).into()
    })
}

/// Hands back the ifb.
fn shape(
    host: &mut Netlink,
    config: &Config,
    veth: &Link,
    hook: &Hook,
    attachment: &Attachment,
) -> anyhow::Result<Option<Link>> {
    let dev = veth.dev();
    if let Some(limit) = config.ingress {
        host.batch(&Shaping::new(config, limit, Direction::Ingress, veth.mtu).requests(&dev))?;
    }
    let Some(limit) = config.egress else { return Ok(None) };
    let name = ifb_name(attachment);
    // What a killed ADD left.
    if *hook == Hook::Ours {
        host.execute(qdisc::remove_ingress(&dev))?;
    }
    remove_ifb(host, &name)?;
    let ifb = link::new(&name).mtu(Mtu::try_from(veth.mtu)?).up();
    let ifb = link::create(host, link::add(ifb, "ifb"), &name)?;
    let mut requests = vec![link::change(&ifb.dev()).alias(&attachment.alias()).request()];
    requests.extend(Shaping::new(config, limit, Direction::Egress, veth.mtu).requests(&ifb.dev()));
    requests.extend(qdisc::redirect_received(&dev, &ifb.dev()));
    host.batch(&requests)?;
    Ok(Some(ifb))
}

/// What sees the packets that a link receives before everything else does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hook {
    Absent,
    /// It leads to our ifb.
    Ours,
    /// Of this kind.
    Foreign(String),
}

impl Hook {
    fn of(host: &mut Netlink, dev: &Dev, ifb: &str) -> anyhow::Result<Self> {
        let Some(kind) = qdisc::hook(host, dev)? else { return Ok(Self::Absent) };
        let is_ours = match link::find(host, ifb)? {
            Some(ifb) if kind == "ingress" => qdisc::redirects(host, dev, ifb.index)?,
            _ => false,
        };
        Ok(if is_ours { Self::Ours } else { Self::Foreign(kind) })
    }
}

fn remove_hook(host: &mut Netlink, dev: &Dev, ifb: &str) -> anyhow::Result<()> {
    match Hook::of(host, dev, ifb)? {
        Hook::Ours => Ok(host.execute(qdisc::remove_ingress(dev))?),
        Hook::Absent | Hook::Foreign(_) => Ok(()),
    }
}

/// As the container sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// How a link is to be shaped.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shaping {
    Everything(TokenBucket),
    Some(Split),
}

impl Shaping {
    /// As in the reference nothing waits longer than 25 ms.
    fn new(config: &Config, limit: Limit, direction: Direction, mtu: u32) -> Self {
        let Limit { rate, burst } = limit;
        let Some((held_back, subnets)) = config.peers.clone() else {
            // A bucket that holds no whole packet lets none through.
            let burst = burst.max(mtu.saturating_add(FRAME));
            return Self::Everything(TokenBucket::with_latency(rate, burst, LATENCY));
        };
        // This discipline splits no packets that are to be split by hardware: one at least must find room.
        let TokenBucket { limit, .. } = TokenBucket::with_latency(rate, burst.max(LARGEST), LATENCY);
        let peer = match direction {
            Direction::Ingress => Peer::Source,
            Direction::Egress => Peer::Destination,
        };
        Self::Some(Split { bucket: TokenBucket { rate, burst, limit }, peer, held_back, subnets })
    }

    fn requests(&self, dev: &Dev) -> Vec<KernelRequest> {
        match self {
            Self::Everything(bucket) => vec![qdisc::replace_bucket(dev, bucket)],
            Self::Some(split) => split::replace(dev, split),
        }
    }

    fn check(&self, host: &mut Netlink, dev: &Dev) -> anyhow::Result<()> {
        match self {
            Self::Everything(bucket) => check_bucket(host, dev, bucket),
            Self::Some(split) => match split::difference(host, dev, split)? {
                Some(difference) => Err(failed(format!("{} {difference}", dev.name)).into()),
                None => Ok(()),
            },
        }
    }
}

fn check_bucket(host: &mut Netlink, dev: &Dev, wanted: &TokenBucket) -> anyhow::Result<()> {
    let there = qdisc::list(host, dev)?.into_iter().find_map(|qdisc| qdisc.bucket);
    let Some(there) = there else {
        return Err(failed(format!("{} is not limited", dev.name)).into());
    };
    // The kernel keeps the burst as a time.
    if (there.rate, there.limit) != (wanted.rate, wanted.limit) || there.burst > wanted.burst {
        let (rate, burst) = (there.rate.saturating_mul(8), u64::from(there.burst) * 8);
        return Err(failed(format!("{} has rate {rate} and burst {burst}", dev.name)).into());
    }
    Ok(())
}

fn take_back(attachment: &Attachment, shaped: &Shaped) -> anyhow::Result<()> {
    let mut host = Netlink::open()?;
    let Shaped { host_link, ifb } = shaped;
    if let Some(veth) = link::find(&mut host, host_link)?.filter(Link::is_veth) {
        host.execute(qdisc::remove_bucket(&veth.dev()))?;
        if let Some(ifb) = ifb {
            remove_hook(&mut host, &veth.dev(), ifb)?;
        }
    }
    if let Some(ifb) = ifb {
        remove_ifb(&mut host, ifb)?;
    }
    let records = records(&attachment.network);
    records.forget(attachment)?;
    Ok(())
}

fn remove_ifb(host: &mut Netlink, name: &str) -> anyhow::Result<()> {
    let is_ifb = |link: &Link| link.kind.as_ref().is_some_and(|kind| kind.name() == "ifb");
    if let Some(link) = link::find(host, name)?.filter(is_ifb) {
        host.execute(link::remove(&link.dev()))?;
    }
    Ok(())
}

/// Of the attachment alone: the reference leaves the interface out, so that a container's second one clashes.
fn ifb_name(attachment: &Attachment) -> String {
    format!("{PREFIX}{}", attachment.hash(HASH))
}

fn name_of_the_go_plugin(attachment: &Attachment) -> String {
    let Attachment { network, container, .. } = attachment;
    let mut name = PREFIX.to_owned();
    for byte in &Sha512::digest(format!("{network}{container}"))[..HASH / 2] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

fn records(network: &NetworkName) -> Records {
    Records::of(NAME, network)
}

const NAME: &str = "bandwidth";
const PREFIX: &str = "bwp";
const HASH: usize = 12;
const LATENCY: Duration = Duration::from_millis(25);
/// An Ethernet header with a VLAN's tag.
const FRAME: u32 = 18;
/// `GSO_LEGACY_MAX_SIZE`, what interfaces pass on at once unless they are told otherwise.
const LARGEST: u32 = 65536;

#[cfg(test)]
mod tests {
    use cni::names::Attachment;

    use super::ifb_name;

    /// The reference runs the names together before it shortens them.
    #[test]
    fn bug_names_that_run_together_are_two() {
        let name = |network: &str, container: &str, ifname: &str| {
            ifb_name(&Attachment {
                network: network.parse().unwrap(),
                container: container.parse().unwrap(),
                ifname: ifname.parse().unwrap(),
            })
        };
        let names = [name("net", "c1", "eth0"), name("ne", "tc1", "eth0"), name("net", "c1", "eth1")];
        assert!(names[0] != names[1] && names[0] != names[2], "{names:?}");
    }
}

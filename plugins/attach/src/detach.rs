//! DEL and GC of every mode that attaches by a veth pair: the links, the elements of the ruleset, the addresses.

use cni::{
    names::{Attachment, NetnsPath, NetworkName},
    request::{Request, ValidAttachments},
};
use ipam::delegate::Ipam;
use kernel::{
    link::{self, Link},
    netlink::Netlink,
    nft::Nft,
};

use crate::{
    container::Container,
    failures::Failures,
    ruleset::{
        owner::Owner,
        plan::Plan,
        sweep::{remove_owned, remove_stale},
    },
};

/// What an attachment's record says was made.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub host_link: String,
    pub ruleset: Plan,
}

/// Removes an attachment's elements of the ruleset, then its links. Without a record they are looked for by the names that
/// follow from the attachment, and the container's end by its own, since another suite's plugin may have made it.
///
/// Hands back the socket through which elements were removed. Close it when all else is done: closing waits for the kernel
/// to let go of them, as removing the links does, and the waits overlap.
pub fn remove(
    attachment: &Attachment,
    recorded: Option<&Recorded>,
    netns: Option<&NetnsPath>,
    failures: &mut Failures,
) -> Option<Nft> {
    let Some(Recorded { host_link, ruleset }) = recorded else {
        if failures.note(remove_unrecorded(attachment, netns)) == Some(Links::Ours) {
            failures.note(Nft::open().and_then(|mut nft| remove_owned(&mut nft, &Owner::of(attachment))));
        }
        return None;
    };
    let nft = if ruleset.is_empty() { None } else { failures.note(leave(ruleset)) };
    failures.note(remove_host_link(host_link, attachment));
    nft
}

fn leave(ruleset: &Plan) -> kernel::error::Result<Nft> {
    let mut nft = Nft::open()?;
    ruleset.remove(&mut nft)?;
    Ok(nft)
}

/// What was found of an attachment's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    Ours,
    /// Another suite's, or none.
    Other,
}

fn remove_unrecorded(attachment: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<Links> {
    if remove_host_link(&attachment.host_veth(), attachment)? == Links::Ours {
        return Ok(Links::Ours);
    }
    let Some(mut container) = Container::open_if_there(netns)? else { return Ok(Links::Other) };
    if let Some(link) = link::find(&mut container.netlink, attachment.ifname.as_str())?.filter(Link::is_veth)
    {
        container.netlink.execute(link::remove(&link.dev()))?;
    }
    Ok(Links::Other)
}

/// The host's end takes the container's with it.
fn remove_host_link(name: &str, attachment: &Attachment) -> kernel::error::Result<Links> {
    let mut host = Netlink::open()?;
    let Some(link) = link::find(&mut host, name)?.filter(|link| belongs(link, attachment)) else {
        return Ok(Links::Other);
    };
    host.execute(link::remove(&link.dev()))?;
    Ok(Links::Ours)
}

/// The name is a hash: one node in a million has two attachments of one name, of which the second failed to be made.
fn belongs(link: &Link, attachment: &Attachment) -> bool {
    link.is_veth() && link.alias.as_ref().is_none_or(|alias| *alias == attachment.alias())
}

/// Takes the links and gives the addresses back, in the order that the address plugin asks for: after the links, since
/// nobody answers then for an address that somebody else may get now, but before them where it works through them.
/// Goes on past errors.
pub fn remove_and_release<T>(
    request: &Request,
    attachment: &Attachment,
    netns: Option<&NetnsPath>,
    failures: &mut Failures,
    remove: impl FnOnce(&mut Failures) -> T,
) -> T {
    let ipam = failures.note(Ipam::resolve(request)).flatten();
    let release = |failures: &mut Failures| {
        if let Some(ipam) = &ipam {
            failures.note(ipam.del(request, attachment, netns));
        }
    };
    let through_link = ipam.as_ref().is_some_and(Ipam::needs_link);
    if through_link {
        release(failures);
    }
    let removed = remove(failures);
    if !through_link {
        release(failures);
    }
    removed
}

/// For the beginning of GC: the addresses of an address plugin that works through the links.
pub fn release_stale_through_links(request: &Request, valid: &ValidAttachments, failures: &mut Failures) {
    if let Ok(Some(ipam)) = Ipam::resolve(request)
        && ipam.needs_link()
    {
        failures.note(ipam.gc(request, valid));
    }
}

/// For the end of GC, when what has a record is gone: links and elements of the network's attachments that are not `valid`
/// and whose record is lost, and their addresses.
pub fn sweep(request: &Request, valid: &ValidAttachments, failures: &mut Failures) {
    failures.note(sweep_links(&request.name, valid));
    let attachments: Vec<_> = valid.0.iter().map(|target| target.clone().on(request.name.clone())).collect();
    failures.note(Nft::open().and_then(|mut nft| remove_stale(&mut nft, &request.name, &attachments)));
    failures.note(match Ipam::resolve(request) {
        Ok(Some(ipam)) if !ipam.needs_link() => ipam.gc(request, valid),
        Ok(_) => Ok(()),
        Err(err) => Err(err.into()),
    });
}

/// Links say whose they are.
fn sweep_links(network: &NetworkName, valid: &ValidAttachments) -> kernel::error::Result<()> {
    let mut host = Netlink::open()?;
    let prefix = format!("tenon:{network}:");
    for link in link::list_kind(&mut host, "veth")? {
        let Some(owner) = link.alias.as_deref().and_then(|alias| alias.strip_prefix(&prefix)) else {
            continue;
        };
        // An interface's name has no colon, and neither has a container's ID.
        let Some((container, ifname)) = owner.split_once(':') else { continue };
        if !valid.contains(container, ifname) {
            host.execute(link::remove(&link.dev()))?;
        }
    }
    Ok(())
}

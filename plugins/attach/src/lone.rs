//! Attachments whose only link is the container's, born there under its final name: on a master (macvlan, ipvlan, vlan) or
//! on nothing (dummy). Their ADD from end to end, CHECK, DEL and GC. What kind of link it is, the plugin knows.

use anyhow::Context;
use cni::{
    error::{Code, Error},
    names::{Attachment, NetnsPath, NetworkName},
    request::{Request, ValidAttachments},
    result::{AddResult, Dns, Interface},
};
use ipam::delegate::Ipam;
use ipnetwork::IpNetwork;
use kernel::{
    link::{self, Link, create::New},
    netlink::{Netlink, Request as Change},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    addresses::allocate,
    check,
    container::{Announcement, Container, NewInterface},
    detach::{release_stale_through_links, remove_and_release, sweep},
    failures::Failures,
    master::Master,
    record::{Records, State},
    veth::described,
};

/// What the plugins differ in.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its type, under which its records are.
    pub plugin: &'static str,
    /// The kernel's name of the links that it makes.
    pub link: &'static str,
}

/// The record's data. The interface goes with its namespace, so that only names of what is outside of it matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The link of the host, or of the container, that the interface is on.
    pub master: Option<String>,
    /// `CNI_NETNS` to the letter.
    pub netns: String,
    pub addresses: Vec<IpNetwork>,
}

impl Kind {
    /// The records of a network's attachments by this plugin.
    pub fn records(&self, network: &NetworkName) -> Records {
        Records::of(self.plugin, network)
    }

    /// For STATUS: this kernel has such links (code 50).
    pub fn require(&self, host: &mut Netlink) -> anyhow::Result<()> {
        if link::knows_kind(host, self.link)? {
            return Ok(());
        }
        Err(Error::new(Code::NotAvailable, self.unknown()).into())
    }

    fn unknown(&self) -> String {
        format!("this kernel makes no links of kind {}, nor has a module that does", self.link)
    }
}

/// What an ADD is to make.
pub struct Wanted<'a> {
    /// `None` for an interface that is on nothing.
    pub master: Option<&'a Master>,
    /// Completes the description of the link.
    pub link: &'a dyn Fn(New) -> Change,
    pub announcement: Announcement,
    /// Replaces what the address plugin says, if any of it is set.
    pub dns: &'a Dns,
}

/// One ADD under way.
pub struct Adding<'a> {
    kind: &'a Kind,
    request: &'a Request,
    attachment: &'a Attachment,
    netns: &'a NetnsPath,
    ipam: Option<Ipam>,
    pub container: Container,
    pub host: Netlink,
}

impl<'a> Adding<'a> {
    /// Opens what the ADD works in, and undoes what an earlier one of the attachment left. Fails (code 7) when the container has
    /// an interface of that name.
    pub fn open(
        kind: &'a Kind,
        request: &'a Request,
        attachment: &'a Attachment,
        netns: &'a NetnsPath,
    ) -> anyhow::Result<Self> {
        let ipam = Ipam::resolve(request)?;
        let (mut container, host) = (Container::open(netns)?, Netlink::open()?);
        clear_leftovers(kind, request, attachment, &mut container)?;
        Ok(Self { kind, request, attachment, netns, ipam, container, host })
    }

    /// Attaches the container, or fails and leaves nothing behind.
    pub fn attach(&mut self, wanted: &Wanted<'_>) -> anyhow::Result<AddResult> {
        self.run(wanted).inspect_err(|_| {
            if let Err(err) = del(self.kind, self.request, self.attachment, Some(self.netns)) {
                log::error!("{}: after a failed ADD: {err:#}", self.attachment);
            }
        })
    }

    fn run(&mut self, wanted: &Wanted<'_>) -> anyhow::Result<AddResult> {
        let link_first = self.ipam.as_ref().is_some_and(Ipam::needs_link);
        let mut result = if link_first { AddResult::default() } else { self.addresses()? };
        let mut attached = Attached {
            master: wanted.master.map(|master| master.link.name.clone()),
            netns: self.netns.as_str().to_owned(),
            addresses: addresses_of(&result),
        };
        let records = self.kind.records(&self.attachment.network);
        records.begin(self.attachment, &attached)?;
        let link = self.interface(wanted)?;
        if link_first {
            self.container.let_through(&link.dev())?;
            result = self.addresses()?;
            attached.addresses = addresses_of(&result);
            records.begin(self.attachment, &attached)?;
        }
        result.interfaces = vec![Interface { sandbox: self.netns.as_str().to_owned(), ..described(&link) }];
        let dev = link.dev();
        let changes = vec![link::change(&dev).alias(&self.attachment.alias()).request()];
        let mac = link.mac.with_context(|| format!("{} has no MAC address", link.name))?;
        let interface = NewInterface { dev: &dev, mac, index: INTERFACE };
        self.container.bring_up_announced(&interface, &result, wanted.announcement, changes)?;
        records.complete(self.attachment)?;
        if !wanted.dns.is_empty() {
            result.dns = wanted.dns.clone();
        }
        Ok(result)
    }

    /// In a chain without an address plugin, what the one before was given is this interface's.
    fn addresses(&self) -> anyhow::Result<AddResult> {
        let Self { request, attachment, netns, ipam, .. } = self;
        if ipam.is_some() {
            return allocate(ipam.as_ref(), request, attachment, netns, INTERFACE);
        }
        let previous = request.prev_result()?.filter(|previous| !previous.ips.is_empty());
        let mut result = previous.ok_or_else(|| {
            let value = cni::decode::field(&request.config, "ipam").unwrap_or(&Value::Null);
            let why = "an address plugin is needed, as none before this one in the chain gave addresses";
            Error::invalid_config("ipam", value, why)
        })?;
        result.ips.iter_mut().for_each(|ip| ip.interface = Some(INTERFACE));
        Ok(result)
    }

    fn interface(&mut self, wanted: &Wanted<'_>) -> anyhow::Result<Link> {
        let Self { kind, attachment, container, host, .. } = self;
        let on_host = wanted.master.is_some_and(|master| !master.in_container);
        let made = create(container, on_host.then_some(host), attachment, wanted.link);
        made.map_err(|err| {
            let is_unknown = err.is_unsupported();
            let err = anyhow::Error::from(err);
            if is_unknown { err.context(kind.unknown()) } else { err }
        })
    }
}

/// Undoes what a killed ADD of this attachment left, and what is left of one whose container went without a DEL, wherever that
/// was. Fails (code 7) when the container has an interface of that name.
pub fn clear_leftovers(
    kind: &Kind,
    request: &Request,
    attachment: &Attachment,
    container: &mut Container,
) -> anyhow::Result<()> {
    let found = kind.records(&attachment.network).find::<Attached>(attachment)?;
    let state = found.map(|(state, _)| state);
    let undo = || del(kind, request, attachment, None).context("detach what an earlier ADD left");
    if state == Some(State::Pending) {
        undo()?;
    }
    container.require_free(&attachment.ifname)?;
    if state == Some(State::Complete) {
        log::warn!("{attachment}: attached before and never detached; detaching first");
        undo()?;
    }
    Ok(())
}

/// Makes a link in the container, under its final name. On a master of the host it is made through a socket there.
pub fn create(
    container: &mut Container,
    host: Option<&mut Netlink>,
    attachment: &Attachment,
    describe: impl Fn(New) -> Change,
) -> kernel::error::Result<Link> {
    let ifname = attachment.ifname.as_str();
    let Some(host) = host else {
        return link::create(&mut container.netlink, describe(link::new(ifname)), ifname);
    };
    match host.execute(describe(link::new(ifname).in_netns(&container.netns))) {
        // Kernels up to 6.12, and some after, look for the name in the namespace of the request too
        // (rtnl_newlink, net/core/rtnetlink.c): there it is born under another, and renamed.
        Err(err) if err.is_exists() => {
            let name = name_at_birth(attachment);
            host.execute(describe(link::new(&name).in_netns(&container.netns)))?;
            let born = link::by_name(&mut container.netlink, &name)?;
            container.netlink.execute(link::change(&born.dev()).name(ifname).request())?;
        }
        made => made?,
    }
    link::by_name(&mut container.netlink, ifname)
}

fn name_at_birth(attachment: &Attachment) -> String {
    format!("new{}", attachment.hash(11))
}

/// Removes the attachment's link, which `is_ours` knows by its kind, from a namespace if that is there.
///
/// An interface without our mark may be one that another suite's plugin made; one with another attachment's mark is in a
/// namespace that the path has come to name since.
pub fn remove(
    attachment: &Attachment,
    netns: Option<&NetnsPath>,
    is_ours: impl Fn(&Link) -> bool,
) -> anyhow::Result<()> {
    let Some(mut container) = Container::open_if_there(netns)? else { return Ok(()) };
    for name in [attachment.ifname.to_string(), name_at_birth(attachment)] {
        let found = link::find(&mut container.netlink, &name)?;
        if let Some(link) = found.filter(|link| is_ours(link) && belongs(link, attachment)) {
            container.netlink.execute(link::remove(&link.dev()))?;
        }
    }
    Ok(())
}

fn belongs(link: &Link, attachment: &Attachment) -> bool {
    link.alias.as_ref().is_none_or(|alias| *alias == attachment.alias())
}

/// Detaches the container. Goes on past errors and reports them together; doing it again is fine. Needs no master: it may be
/// gone, and the interface with it.
pub fn del(
    kind: &Kind,
    request: &Request,
    attachment: &Attachment,
    netns: Option<&NetnsPath>,
) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    let records = kind.records(&attachment.network);
    let record = failures.note(records.find::<Attached>(attachment)).flatten();
    let recorded = record.map(|(_, data)| NetnsPath::new(data.netns.as_str()));
    let netns = netns.or(recorded.as_ref());
    remove_and_release(request, attachment, netns, &mut failures, |failures| {
        failures.note(remove(attachment, netns, |link| is_of(kind, link)))
    });
    if failures.is_empty() {
        failures.note(records.forget(attachment));
    }
    failures.into_result()
}

fn is_of(kind: &Kind, link: &Link) -> bool {
    link.kind.as_ref().is_some_and(|found| found.name() == kind.link)
}

/// Detaches every attachment of the network that is not `valid`, and has the address plugin do the same.
pub fn gc(kind: &Kind, request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    release_stale_through_links(request, valid, &mut failures);
    let records = kind.records(&request.name);
    for record in failures.note(records.all::<Attached>()).unwrap_or_default() {
        let attachment = &record.attachment;
        if valid.contains(attachment.container.as_str(), attachment.ifname.as_str()) {
            continue;
        }
        let netns = NetnsPath::new(record.data.netns.as_str());
        if failures.note(remove(attachment, Some(&netns), |link| is_of(kind, link))).is_some() {
            failures.note(records.forget(attachment));
        }
    }
    let keep: Vec<_> = valid.0.iter().map(|target| target.clone().on(request.name.clone())).collect();
    failures.note(records.remove_unreadable::<Attached>(&keep));
    sweep(request, valid, &mut failures);
    failures.into_result()
}

/// What ADD made is still there, and `right` finds the link to be as it was made; else it says how it is instead.
pub fn check(
    request: &Request,
    attachment: &Attachment,
    netns: &NetnsPath,
    right: impl Fn(&Link) -> Result<(), String>,
) -> anyhow::Result<()> {
    let result = request.required_prev_result()?;
    let (index, _) = check::container_interface(&result, attachment, netns)?;
    if let Some(ipam) = Ipam::resolve(request)? {
        ipam.check(request, attachment, netns)?;
    }
    let mut container = Container::open(netns)?;
    let link = check::link_in_container(&mut container, attachment.ifname.as_str(), false)?;
    right(&link).map_err(|instead| check::failed(format!("{} is {instead}", link.name)))?;
    check::addresses(&mut container.netlink, &link, &result, index)?;
    check::routes(&mut container.netlink, &link, &result)
}

/// For [`check`]: the link is of exactly this kind, modes and identifiers included.
pub fn is_exactly(expected: link::Kind) -> impl Fn(&Link) -> Result<(), String> {
    move |link| {
        if link.kind.as_ref() == Some(&expected) {
            return Ok(());
        }
        Err(format!("{:?}, not {expected:?}", link.kind))
    }
}

fn addresses_of(result: &AddResult) -> Vec<IpNetwork> {
    result.ips.iter().map(|ip| ip.address).collect()
}

/// The only interface of the result.
const INTERFACE: usize = 0;

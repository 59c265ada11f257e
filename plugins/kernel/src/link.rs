//! Network interfaces of every kind: finding, listing, removing. Making them is in the module of each kind ([`crate::veth`],
//! [`crate::bridge`], ...), with what is common to all of them in [`mod@create`]; changing them in [`mod@change`].

pub mod change;
pub mod create;
mod decode;
mod kind;

use std::{
    fmt,
    time::{Duration, Instant},
};

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage, Prop},
};
use nix::{errno::Errno, libc};

pub use self::kind::{BridgePort, Kind};
use crate::{
    error::{Error, Result},
    mac::MacAddr,
    netlink::{Netlink, Request},
};

/// The number of a link in its namespace; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkIndex(u32);

impl From<u32> for LinkIndex {
    fn from(index: u32) -> Self {
        Self(index)
    }
}

impl From<LinkIndex> for u32 {
    fn from(index: LinkIndex) -> Self {
        index.0
    }
}

impl fmt::Display for LinkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A link as requests name it: by index, with the name for error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dev {
    /// What the kernel goes by.
    pub index: LinkIndex,
    /// What people read. Not checked against the index.
    pub name: String,
}

/// The largest packet of a link, in bytes without the Ethernet header. 68 is the least that IPv4 allows (RFC 791);
/// every driver has a limit of its own above that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtu(u32);

/// A number that is no MTU of any link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MTU {0} is not within 68..=65535")]
pub struct MtuError(u32);

impl TryFrom<u32> for Mtu {
    type Error = MtuError;

    fn try_from(mtu: u32) -> Result<Self, MtuError> {
        if (68..=65535).contains(&mtu) { Ok(Self(mtu)) } else { Err(MtuError(mtu)) }
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> Self {
        mtu.0
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A link as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: LinkIndex,
    /// Its name.
    pub name: String,
    /// `ifalias`, free text of up to 255 bytes.
    pub alias: Option<String>,
    /// Further names it can be found by.
    pub altnames: Vec<String>,
    /// Ethernet address; `None` for links that have none (tun, wireguard).
    pub mac: Option<MacAddr>,
    /// The address burnt into the device, where it tells.
    pub permanent_mac: Option<MacAddr>,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// `IFF_*` as the kernel sent them; see the accessors.
    pub flags: u32,
    /// RFC 2863 operational state.
    pub operstate: OperState,
    /// What made it; `None` for hardware and loopback.
    pub kind: Option<Kind>,
    /// The bridge, bond or VRF it is a port of.
    pub master: Option<LinkIndex>,
    /// The link below it, or the peer of a veth; in another namespace if `peer_netnsid` is there.
    pub parent: Option<LinkIndex>,
    /// The namespace `parent` is in, as this namespace numbers it.
    pub peer_netnsid: Option<i32>,
    /// Group number, 0 by default.
    pub group: u32,
    /// Length of the transmit queue.
    pub txqlen: u32,
    /// How many asked for promiscuous mode.
    pub promiscuity: u32,
    /// The bus address of the device (`0000:03:00.1`).
    pub parent_device: Option<String>,
    /// What it is to the bridge that is its `master`.
    pub port: Option<BridgePort>,
}

/// RFC 2863 operational state, as `ip link` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperState {
    /// The driver does not tell (loopback, tun).
    Unknown,
    /// No carrier, or set down.
    Down,
    /// The link below it is down.
    LowerLayerDown,
    /// Waiting, for instance for 802.1X.
    Dormant,
    /// Packets pass.
    Up,
    /// Not present or testing.
    Other,
}

impl Link {
    /// How requests name it.
    pub fn dev(&self) -> Dev {
        Dev { index: self.index, name: self.name.clone() }
    }

    /// Set up by the administrator.
    pub fn is_up(&self) -> bool {
        self.has(libc::IFF_UP)
    }

    /// Up, and with carrier.
    pub fn is_running(&self) -> bool {
        self.has(libc::IFF_RUNNING)
    }

    /// The loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.has(libc::IFF_LOOPBACK)
    }

    /// Promiscuous mode was set by the administrator (it may also be on for another reason: see `promiscuity`).
    pub fn is_promiscuous(&self) -> bool {
        self.has(libc::IFF_PROMISC)
    }

    /// Takes all multicast.
    pub fn is_allmulticast(&self) -> bool {
        self.has(libc::IFF_ALLMULTI)
    }

    /// One end of a veth pair.
    pub fn is_veth(&self) -> bool {
        self.kind == Some(Kind::Veth)
    }

    /// A bridge.
    pub fn is_bridge(&self) -> bool {
        matches!(self.kind, Some(Kind::Bridge { .. }))
    }

    fn has(&self, flag: libc::c_int) -> bool {
        u32::try_from(flag).is_ok_and(|flag| self.flags & flag != 0)
    }
}

/// The link of that name or alternative name; it is an error if there is none (`is_missing`).
pub fn by_name(nl: &mut Netlink, name: &str) -> Result<Link> {
    one(nl, named(name), format!("find link {name}"))
}

/// The link of that name or alternative name, if there is one.
pub fn find(nl: &mut Netlink, name: &str) -> Result<Option<Link>> {
    by_name(nl, name).map(Some).or_else(|err| if err.is_missing() { Ok(None) } else { Err(err) })
}

/// The link of that index; it is an error if there is none (`is_missing`).
pub fn by_index(nl: &mut Netlink, index: LinkIndex) -> Result<Link> {
    let mut message = LinkMessage::default();
    message.header.index = index.into();
    one(nl, message, format!("find link with index {index}"))
}

fn one(nl: &mut Netlink, message: LinkMessage, act: String) -> Result<Link> {
    let answers = nl.ask(&[get(message, act.clone())])?;
    if let Some((_, error)) = answers.failures.into_iter().next() {
        return Err(error);
    }
    first(answers.replies, act)
}

fn first(replies: Vec<(usize, RouteNetlinkMessage)>, act: String) -> Result<Link> {
    let link = replies.into_iter().find_map(|(_, message)| decode::link(message));
    link.ok_or_else(|| Error::malformed(act, "no link in the reply"))
}

fn get(mut message: LinkMessage, act: String) -> Request {
    message.attributes.push(without_statistics());
    Request::new(RouteNetlinkMessage::GetLink(message), 0, act)
}

/// Statistics are most of a link's description, and cost the most to collect.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

/// A message about the link of a name. A name that is too long for a link can only be an alternative one.
pub(crate) fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(if name.len() < libc::IFNAMSIZ {
        LinkAttribute::IfName(name.to_owned())
    } else {
        let text = name.bytes().chain([0]).collect();
        LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, text))
    });
    message
}

/// Every link of the namespace.
pub fn list(nl: &mut Netlink) -> Result<Vec<Link>> {
    dump(nl, LinkMessage::default(), "list links")
}

/// The link that an event is about, come, changed or gone ([`Netlink::event`]). A link that only left its bridge
/// (`RTM_DELLINK` of family bridge) is not gone, and gives `None`.
pub fn of_event(event: RouteNetlinkMessage) -> Option<Link> {
    match event {
        RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message)
            if message.header.interface_family == AddressFamily::Unspec =>
        {
            decode::link(RouteNetlinkMessage::NewLink(message))
        }
        _ => None,
    }
}

/// The ports of a bridge, bond or VRF.
pub fn list_ports(nl: &mut Netlink, master: &Dev) -> Result<Vec<Link>> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Controller(master.index.into()));
    let mut links = dump(nl, message, &format!("list ports of {}", master.name))?;
    links.retain(|link| link.master == Some(master.index));
    Ok(links)
}

/// The links of a kind, by the kernel's name of it (`veth`, `bridge`, `vxlan`).
pub fn list_kind(nl: &mut Netlink, kind: &str) -> Result<Vec<Link>> {
    let mut message = LinkMessage::default();
    let info = LinkInfo::Kind(InfoKind::Other(kind.to_owned()));
    message.attributes.push(LinkAttribute::LinkInfo(vec![info]));
    let mut links = dump(nl, message, &format!("list links of kind {kind}"))?;
    // A kind that the kernel does not know does not restrict it.
    links.retain(|link| link.kind.as_ref().is_some_and(|found| found.name() == kind));
    Ok(links)
}

fn dump(nl: &mut Netlink, mut message: LinkMessage, act: &str) -> Result<Vec<Link>> {
    message.attributes.push(without_statistics());
    let replies = nl.dump(&RouteNetlinkMessage::GetLink(message), act)?;
    Ok(replies.into_iter().filter_map(decode::link).collect())
}

/// Makes the link that `request` describes and returns it, in one exchange.
///
/// The kernel can echo what it made (`NLM_F_ECHO`), but for links only since 6.2; asking in the same send costs the
/// same and works everywhere. `name` is the name that `request` gives the link.
pub fn create(nl: &mut Netlink, request: Request, name: &str) -> Result<Link> {
    let act = request.act().to_owned();
    let answers = nl.ask(&[request, get(named(name), act.clone())])?;
    match answers.failures.into_iter().next() {
        Some((_, error)) => Err(error),
        None => first(answers.replies, act),
    }
}

/// Carries out `requests` and returns the link as they leave it, in one exchange.
pub fn after(nl: &mut Netlink, mut requests: Vec<Request>, dev: &Dev) -> Result<Link> {
    let act = format!("find link {}", dev.name);
    let mut message = LinkMessage::default();
    message.header.index = dev.index.into();
    requests.push(get(message, act.clone()));
    let answers = nl.ask(&requests)?;
    match answers.failures.into_iter().next() {
        Some((_, error)) => Err(error),
        None => first(answers.replies, act),
    }
}

/// Waits until a link is up and has carrier, which a veth gets a moment after both ends are up. It is an error if that
/// does not happen within `timeout`, or if the link goes.
pub fn wait_running(nl: &mut Netlink, dev: &Dev, timeout: Duration) -> Result<Link> {
    let now = by_index(nl, dev.index)?;
    if is_ready(&now) {
        return Ok(now);
    }
    let deadline = Instant::now() + timeout;
    nl.subscribe(RTNLGRP_LINK)?;
    let running = running(nl, dev, deadline);
    nl.unsubscribe(RTNLGRP_LINK)?;
    running
}

fn running(nl: &mut Netlink, dev: &Dev, deadline: Instant) -> Result<Link> {
    loop {
        let link = match by_index(nl, dev.index) {
            Err(err) if err.is_overrun() => continue,
            link => link?,
        };
        if is_ready(&link) {
            return Ok(link);
        }
        if Instant::now() >= deadline {
            return Err(Error::new(format!("wait for link {} to run", dev.name), Errno::ETIMEDOUT));
        }
        nl.wait_readable(deadline)?;
    }
}

/// The operational state is what the bridge above looks at, and it follows the flag.
fn is_ready(link: &Link) -> bool {
    link.is_running() && matches!(link.operstate, OperState::Up | OperState::Unknown)
}

/// Starts the description of a new link; a kind's `add` completes it.
pub fn new(name: &str) -> create::New {
    create::New::named(name)
}

/// Makes a link of any kind that needs nothing else, by the kernel's name of the kind (`ifb`, `dummy`, `vcan`). Fails
/// if the name is taken.
pub fn add(link: create::New, kind: &str) -> Request {
    link.add_as(InfoKind::Other(kind.to_owned()), None)
}

/// Whether this kernel can make links of a kind, perhaps by a module that it loads for that.
///
/// Asks for one that no driver makes: with a MAC address of a group, and on no link (`rtnl_newlink`, net/core/rtnetlink.c, looks
/// for the driver, and has it judge, before it makes anything).
pub fn knows_kind(nl: &mut Netlink, kind: &str) -> Result<bool> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Address(vec![1, 0, 0, 0, 0, 0]));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other(kind.to_owned()))]));
    let act = format!("ask for links of kind {kind}");
    let request = Request::new(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, act);
    match nl.execute(request) {
        Err(err) if err.is_unsupported() => Ok(false),
        Err(err) if err.is_permission() => Err(err),
        _ => Ok(true),
    }
}

/// Starts a change of a link.
pub fn change(dev: &Dev) -> change::Change {
    change::Change::of(dev)
}

/// As [`change()`], of the link that has that name when the kernel reads the request.
pub fn change_named(name: &str) -> change::Change {
    change::Change::named(name)
}

/// Removes a link, and the peer of a veth with it; accepts that it is gone.
pub fn remove(dev: &Dev) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = dev.index.into();
    delete(message, &dev.name)
}

/// As [`remove`], of the link that has that name when the kernel reads the request.
pub fn remove_named(name: &str) -> Request {
    delete(named(name), name)
}

fn delete(message: LinkMessage, name: &str) -> Request {
    Request::new(RouteNetlinkMessage::DelLink(message), 0, format!("remove link {name}")).ok_if_missing()
}

/// Gives a link a further name, of up to 127 bytes.
pub fn add_altname(dev: &Dev, altname: &str) -> Request {
    let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND;
    let act = format!("add altname {altname} to {}", dev.name);
    Request::new(RouteNetlinkMessage::NewLinkProp(altname_of(dev, altname)), flags, act)
}

/// Takes a further name from a link; accepts that it does not have it.
pub fn remove_altname(dev: &Dev, altname: &str) -> Request {
    let act = format!("remove altname {altname} from {}", dev.name);
    Request::new(RouteNetlinkMessage::DelLinkProp(altname_of(dev, altname)), 0, act).ok_if_missing()
}

fn altname_of(dev: &Dev, altname: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = dev.index.into();
    message.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(altname.to_owned())]));
    message
}

/// `ENODEV`, as an error of [`by_name`] for a caller that found no link by other means.
pub fn missing(name: &str) -> Error {
    Error::new(format!("find link {name}"), Errno::ENODEV)
}

const IFLA_ALT_IFNAME: u16 = 53;
const RTNLGRP_LINK: u32 = 1;

//! Interfaces with a MAC address of their own on another link, with or without a character device (macvtap).

use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, InfoMacVtap, LinkAttribute, LinkInfo, MacVlanMacAddressMode, MacVlanMode,
};

use crate::{
    link::{self, Dev, LinkIndex, create::New},
    mac::MacAddr,
    netlink::Request,
};

/// How the interfaces on one parent reach each other (ip-link(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Private,
    /// Over the switch outside, which must send packets back.
    Vepa,
    /// Directly.
    Bridge,
    /// There is only one.
    Passthru,
    /// Only from the listed MAC addresses.
    Source,
}

impl Mode {
    /// A mode that this crate does not know is `None`.
    pub(crate) fn from_kernel(mode: MacVlanMode) -> Option<Self> {
        match mode {
            MacVlanMode::Private => Some(Self::Private),
            MacVlanMode::Vepa => Some(Self::Vepa),
            MacVlanMode::Bridge => Some(Self::Bridge),
            MacVlanMode::Passthrough => Some(Self::Passthru),
            MacVlanMode::Source => Some(Self::Source),
            _ => None,
        }
    }
}

impl From<Mode> for MacVlanMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Private => Self::Private,
            Mode::Vepa => Self::Vepa,
            Mode::Bridge => Self::Bridge,
            Mode::Passthru => Self::Passthrough,
            Mode::Source => Self::Source,
        }
    }
}

/// Makes a macvlan on `parent`, which is a link of the namespace of the socket, wherever the new one is born.
/// `queue` is the length of the queue for broadcasts, in packets (Linux 5.11); the kernel's own is 1000.
pub fn add(link: New, parent: LinkIndex, mode: Mode, queue: Option<u32>) -> Request {
    let infos = std::iter::once(InfoMacVlan::Mode(mode.into())).chain(queue.map(InfoMacVlan::BcQueueLen));
    link.parent(parent).add_as(InfoKind::MacVlan, Some(InfoData::MacVlan(infos.collect())))
}

/// As [`add`], with a character device `/dev/tap<index>`.
pub fn add_tap(link: New, parent: LinkIndex, mode: Mode, queue: Option<u32>) -> Request {
    let infos = std::iter::once(InfoMacVtap::Mode(mode.into())).chain(queue.map(InfoMacVtap::BcQueueLen));
    link.parent(parent).add_as(InfoKind::MacVtap, Some(InfoData::MacVtap(infos.collect())))
}

/// The senders that a macvlan in source mode takes packets from, in place of those it had.
pub fn set_sources(dev: &Dev, senders: &[MacAddr]) -> Request {
    let data = senders.iter().map(|mac| InfoMacVlan::MacAddr(mac.0)).collect();
    let infos = vec![InfoMacVlan::MacAddrMode(MacVlanMacAddressMode::Set), InfoMacVlan::MacAddrData(data)];
    let infos = vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(InfoData::MacVlan(infos))];
    link::change(dev).with(LinkAttribute::LinkInfo(infos), "sources").request()
}

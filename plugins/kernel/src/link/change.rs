//! Changes of a link that exists, several in one message.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage},
};

use super::{Dev, Mtu};
use crate::{mac::MacAddr, netlink::Request, netns::Netns};

/// Which IPv6 link-local address the kernel gives a link when it goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrGenMode {
    /// From the MAC address (RFC 4291).
    Eui64,
    /// None.
    None,
    /// From a secret and the network (RFC 7217).
    StablePrivacy,
    /// Random.
    Random,
}

/// A change of one link. The kernel applies the parts of one message in an order of its own (`do_setlink`,
/// net/core/rtnetlink.c): namespace, MAC, MTU, name, alias, master, flags, queue length, what is of one address family.
#[derive(Clone, Debug)]
pub struct Change {
    message: LinkMessage,
    act: String,
    netns: Option<Netns>,
}

impl Change {
    pub(super) fn of(dev: &Dev) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = dev.index.into();
        Self { message, act: format!("set link {}", dev.name), netns: None }
    }

    pub(super) fn named(name: &str) -> Self {
        Self { message: super::named(name), act: format!("set link {name}"), netns: None }
    }

    /// Sets it up.
    #[must_use]
    pub fn up(self) -> Self {
        self.flag(LinkFlags::Up, true, "up")
    }

    /// Sets it down.
    #[must_use]
    pub fn down(self) -> Self {
        self.flag(LinkFlags::Up, false, "down")
    }

    /// Promiscuous mode.
    #[must_use]
    pub fn promiscuous(self, on: bool) -> Self {
        self.flag(LinkFlags::Promisc, on, if on { "promisc on" } else { "promisc off" })
    }

    /// Reception of all multicast.
    #[must_use]
    pub fn allmulticast(self, on: bool) -> Self {
        self.flag(LinkFlags::Allmulti, on, if on { "allmulticast on" } else { "allmulticast off" })
    }

    /// Largest packet.
    #[must_use]
    pub fn mtu(self, mtu: Mtu) -> Self {
        self.with(LinkAttribute::Mtu(mtu.into()), &format!("mtu {mtu}"))
    }

    /// Ethernet address.
    #[must_use]
    pub fn mac(self, mac: MacAddr) -> Self {
        self.with(LinkAttribute::Address(mac.0.to_vec()), &format!("address {mac}"))
    }

    /// Makes it a port of a bridge, bond or VRF.
    #[must_use]
    pub fn master(self, master: &Dev) -> Self {
        self.with(LinkAttribute::Controller(master.index.into()), &format!("master {}", master.name))
    }

    /// Takes it out of its bridge, bond or VRF.
    #[must_use]
    pub fn no_master(self) -> Self {
        self.with(LinkAttribute::Controller(0), "nomaster")
    }

    /// Free text, up to 255 bytes; empty removes it.
    #[must_use]
    pub fn alias(self, alias: &str) -> Self {
        self.with(LinkAttribute::IfAlias(alias.to_owned()), "alias")
    }

    /// Another name. Kernels before 6.2 want the link down for that. Not with [`super::change_named`], whose name would
    /// be read as the new one.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.with(LinkAttribute::IfName(name.to_owned()), &format!("name {name}"))
    }

    /// Length of the transmit queue.
    #[must_use]
    pub fn txqlen(self, length: u32) -> Self {
        self.with(LinkAttribute::TxQueueLen(length), &format!("txqueuelen {length}"))
    }

    /// Group number.
    #[must_use]
    pub fn group(self, group: u32) -> Self {
        self.with(LinkAttribute::Group(group), &format!("group {group}"))
    }

    /// IPv6 address generation. The kernel sets it after the flags: one message with `up` is too late for the
    /// link-local address of that moment.
    #[must_use]
    pub fn addr_gen_mode(self, mode: AddrGenMode) -> Self {
        let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode.into())]);
        self.with(LinkAttribute::AfSpecUnspec(vec![inet6]), "addrgenmode")
    }

    /// Has the kernel announce the link's IPv4 addresses: see [`crate::announce`]. As the sysctl of that name, but it needs
    /// neither a writable /proc/sys nor a thread in the link's namespace.
    #[must_use]
    pub fn arp_notify(self) -> Self {
        let setting = DefaultNla::new(IPV4_DEVCONF_ARP_NOTIFY, 1_u32.to_ne_bytes().to_vec());
        let mut settings = vec![0; setting.buffer_len()];
        setting.emit(&mut settings);
        let conf = AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, settings));
        let inet = AfSpecUnspec::Inet(vec![conf]);
        self.with(LinkAttribute::AfSpecUnspec(vec![inet]), "arp_notify on")
    }

    /// Moves it. It arrives down and without addresses; the name, unless one is given in the same change, must be
    /// free there.
    #[must_use]
    pub fn netns(mut self, netns: &Netns) -> Self {
        self.netns = Some(netns.clone());
        self.with(LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()), &format!("netns {netns}"))
    }

    /// The message for the kernel. `RTM_NEWLINK` without the creation flag: it also takes what only a kind knows.
    pub fn request(self) -> Request {
        Request::new(RouteNetlinkMessage::NewLink(self.message), 0, self.act).keeping(self.netns)
    }

    pub(crate) fn with(mut self, attribute: LinkAttribute, words: &str) -> Self {
        self.message.attributes.push(attribute);
        self.describe(words)
    }

    fn flag(mut self, flag: LinkFlags, on: bool, words: &str) -> Self {
        self.message.header.flags.set(flag, on);
        self.message.header.change_mask |= flag;
        self.describe(words)
    }

    fn describe(mut self, words: &str) -> Self {
        self.act.push(' ');
        self.act.push_str(words);
        self
    }
}

impl From<AddrGenMode> for In6AddrGenMode {
    fn from(mode: AddrGenMode) -> Self {
        match mode {
            AddrGenMode::Eui64 => Self::Eui64,
            AddrGenMode::None => Self::None,
            AddrGenMode::StablePrivacy => Self::StablePrivacy,
            AddrGenMode::Random => Self::Random,
        }
    }
}

const IFLA_INET_CONF: u16 = 1;
/// include/uapi/linux/ip.h
const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;

//! Taps: Ethernet interfaces whose other end is a process, which reads and writes frames at a file. Rtnetlink shows and
//! changes them, but makes none (`tun_validate`, drivers/net/tun.c): that takes requests to the character device.

mod sys;

use std::{fs::File, io, os::fd::AsFd};

use netlink_packet_core::Nla;
use netlink_packet_route::link::InfoTun;

use crate::{
    error::{Error, Result},
    netns::Netns,
};

/// What is said of a tap when it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tap {
    /// Several files at a time may be its other end.
    pub multi_queue: bool,
    /// The user who may attach to it without CAP_NET_ADMIN, by number.
    pub owner: Option<u32>,
    /// The group whose members may.
    pub group: Option<u32>,
}

/// Opens the character device for the taps of `netns`. Nothing is made yet.
pub fn open(netns: &Netns) -> Result<File> {
    let opened: io::Result<File> = netns.visit(|| File::options().read(true).write(true).open(DEVICE))?;
    opened.map_err(|err| Error::new(format!("open {DEVICE}"), err))
}

/// Makes a tap, in the namespace that the device was opened for, that stays until it is removed. `EBUSY` if the name is taken. It
/// is down, and without a carrier until a process attaches.
///
/// Whoever is killed under way leaves none: it stays only once all else is said.
pub fn add_tap(device: &File, name: &str, tap: &Tap) -> Result<()> {
    let Tap { multi_queue, owner, group } = *tap;
    let fail = |err: nix::Error| Error::new(format!("add tap {name}"), err);
    sys::attach(device.as_fd(), name, flags(multi_queue) | IFF_TUN_EXCL).map_err(fail)?;
    if let Some(owner) = owner {
        sys::set_owner(device.as_fd(), owner).map_err(fail)?;
    }
    if let Some(group) = group {
        sys::set_group(device.as_fd(), group).map_err(fail)?;
    }
    sys::persist(device.as_fd()).map_err(fail)
}

/// Attaches to a tap: what is then read from the device are the frames that the kernel sends by the interface, and what is
/// written to it are those that it receives. The interface has a carrier as long as somebody is attached.
pub fn attach(device: &File, name: &str, multi_queue: bool) -> Result<()> {
    let attached = sys::attach(device.as_fd(), name, flags(multi_queue));
    attached.map_err(|err| Error::new(format!("attach to tap {name}"), err))
}

/// Frames alone, without a header before them; whoever attaches chooses anew.
fn flags(multi_queue: bool) -> u16 {
    IFF_TAP | IFF_NO_PI | if multi_queue { IFF_MULTI_QUEUE } else { 0 }
}

/// What the kernel shows of a tap; `None` for a tun, which carries packets without Ethernet.
pub(crate) fn decode(infos: &[InfoTun]) -> Option<Tap> {
    let value = |kind: u16| {
        infos.iter().find_map(|info| match info {
            InfoTun::Other(attribute) if attribute.kind() == kind => {
                let mut bytes = vec![0; attribute.value_len()];
                attribute.emit_value(&mut bytes);
                Some(bytes)
            }
            _ => None,
        })
    };
    let byte = |kind| value(kind)?.first().copied();
    let number = |kind| Some(u32::from_ne_bytes(*value(kind)?.first_chunk()?));
    let is_tap = byte(IFLA_TUN_TYPE).is_some_and(|kind| u16::from(kind) == IFF_TAP);
    is_tap.then(|| Tap {
        multi_queue: byte(IFLA_TUN_MULTI_QUEUE).is_some_and(|on| on != 0),
        owner: number(IFLA_TUN_OWNER),
        group: number(IFLA_TUN_GROUP),
    })
}

/// The character device.
pub const DEVICE: &str = "/dev/net/tun";
/// The most that a tap's frames hold: `MAX_MTU` of drivers/net/tun.c less an Ethernet header.
pub const MAX_MTU: u32 = 65_521;

// include/uapi/linux/if_tun.h
const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_TUN_EXCL: u16 = 0x8000;
// include/uapi/linux/if_link.h
const IFLA_TUN_OWNER: u16 = 1;
const IFLA_TUN_GROUP: u16 = 2;
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;

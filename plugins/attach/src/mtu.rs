//! The MTU of an attachment: what a configuration may ask for, and what the way out of the host allows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::error::Error;
use kernel::{
    error::Result,
    link::{self, Mtu},
    netlink::Netlink,
    route::{self, Family},
};
use serde_json::Value;

/// `mtu` of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// 0 or absent: the kernel's 1500, or what the default route's link carries if that is less.
    Kernel,
    /// `"auto"`: what the default route's link carries.
    Auto,
    Bytes(Mtu),
}

impl Wish {
    /// Fails with code 7.
    pub fn parse(value: &Value) -> Result<Self, Error> {
        let bytes = value.as_u64().and_then(|bytes| u32::try_from(bytes).ok());
        match (value, bytes.map(Mtu::try_from)) {
            (Value::Null, _) => Ok(Self::Kernel),
            (Value::String(text), _) if text == "auto" => Ok(Self::Auto),
            _ if bytes == Some(0) => Ok(Self::Kernel),
            (_, Some(Ok(mtu))) => Ok(Self::Bytes(mtu)),
            _ => {
                let why = "is neither \"auto\" nor 0 nor a number of bytes from 68 to 65535";
                Err(Error::invalid_config("mtu", value, why))
            }
        }
    }

    /// The MTU to give a veth on `host`; `None` is the kernel's default, and right.
    pub fn of_veth(self, host: &mut Netlink) -> anyhow::Result<Option<Mtu>> {
        let out = match self {
            Self::Bytes(mtu) => return Ok(Some(mtu)),
            Self::Auto => of_default_route(host)?,
            Self::Kernel => of_default_route(host)?.filter(|out| *out < ETHERNET),
        };
        // The loopback's 65536 is the one link's that a veth can't have.
        Ok(out.map(|out| Mtu::try_from(out.min(LARGEST))).transpose()?)
    }
}

/// `mtu` of a configuration that knows no more than a number: `None` for 0. Fails with code 7.
pub fn parse(mtu: u32) -> std::result::Result<Option<Mtu>, Error> {
    let parsed = (mtu != 0).then(|| Mtu::try_from(mtu)).transpose();
    parsed.map_err(|why| Error::invalid_config("mtu", mtu, why))
}

/// The MTU of the default route's link, of IPv4 or else of IPv6; `None` without a default route.
pub fn of_default_route(host: &mut Netlink) -> Result<Option<u32>> {
    for (family, outside) in [(Family::V4, OUTSIDE_V4), (Family::V6, OUTSIDE_V6)] {
        // One look-up costs the same however many routes there are.
        let link = match route::lookup(host, outside) {
            Ok(route) if route.gateway.is_some() => route.dev,
            Ok(_) => route::default_link(host, family)?,
            Err(_) => None,
        };
        if let Some(index) = link {
            return link::by_index(host, index).map(|link| Some(link.mtu));
        }
    }
    Ok(None)
}

/// Addresses for documentation (RFC 5737, RFC 3849), which nothing but a default route should lead to.
const OUTSIDE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OUTSIDE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// What the kernel gives a veth (ETH_DATA_LEN).
const ETHERNET: u32 = 1500;
/// ETH_MAX_MTU (include/uapi/linux/if_ether.h).
const LARGEST: u32 = 65535;

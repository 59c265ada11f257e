//! A lease of either family, and when it ends.

use std::fmt;

use cni::result::AddResult;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{config::Family, moment::Moment, v4, v6};

/// What somebody on the network lets a container have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lease {
    V4(v4::lease::Lease),
    V6(v6::lease::Lease),
}

/// RFC 2131, section 4.4.5; RFC 8415, section 21.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// T1: the server that granted it is asked again.
    pub renew: Moment,
    /// T2: any server is.
    pub rebind: Moment,
    pub expire: Moment,
}

impl Lease {
    pub fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// With the length of its prefix.
    pub fn address(&self) -> IpNetwork {
        match self {
            Self::V4(lease) => lease.address.into(),
            Self::V6(lease) => lease.address.into(),
        }
    }

    /// As the plugin's result; the routes get the metric `priority`.
    pub fn result(&self, priority: Option<u32>) -> AddResult {
        match self {
            Self::V4(lease) => lease.result(priority),
            Self::V6(lease) => lease.result(),
        }
    }

    /// What the link is to be lowered to; the kernel does so by itself for IPv6.
    pub fn mtu(&self) -> Option<u32> {
        match self {
            Self::V4(lease) => lease.mtu,
            Self::V6(_) => None,
        }
    }
}

/// The address, and whose word it is.
impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(lease) => write!(f, "{} from {}", lease.address, lease.server),
            Self::V6(lease) => write!(f, "{} {}", lease.address, lease.origin),
        }
    }
}

//! The configuration of `vrf`, raw and checked.

use cni::{
    error::Error,
    names::{Attachment, IfName},
    request::Request,
};
use serde::Deserialize;

/// The configuration as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NetConf {
    vrfname: String,
    table: u32,
}

/// The configuration, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) name: IfName,
    /// `None` for that of the VRF if it is there, else the first one free.
    pub(super) table: Option<u32>,
}

impl Config {
    pub(super) fn new(request: &Request) -> Result<Self, Error> {
        let NetConf { vrfname, table } = request.decode()?;
        let bad = |why: &dyn std::fmt::Display| Error::invalid_config("vrfname", format!("{vrfname:?}"), why);
        if vrfname.is_empty() {
            return Err(bad(&"the VRF needs a name"));
        }
        Ok(Self { name: vrfname.parse().map_err(|why| bad(&why))?, table: (table != 0).then_some(table) })
    }

    /// As [`Config::new`], for an attachment whose interface is not the VRF itself.
    pub(super) fn of(request: &Request, attachment: &Attachment) -> Result<Self, Error> {
        let config = Self::new(request)?;
        if config.name == attachment.ifname {
            let why = "is the interface's own name";
            return Err(Error::invalid_config("vrfname", format!("{:?}", config.name.as_str()), why));
        }
        Ok(config)
    }
}

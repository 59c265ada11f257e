//! The `vlan` plugin: a container with the interface of one VLAN of a link of the host.
//!
//! `config` reads what is asked for, `attach` is ADD, `check` is CHECK and STATUS; DEL and GC are those of every attachment whose
//! only link is the container's.

mod attach;
mod check;
pub mod config;

use ::attach::lone::{self, Kind};
use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};

/// The plugin of type `vlan`.
#[derive(Debug)]
pub struct Vlan;

/// Its links and records.
pub const KIND: Kind = Kind { plugin: "vlan", link: "vlan" };

impl Plugin for Vlan {
    const NAME: &'static str = KIND.plugin;

    fn add(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        attach::add(request, attachment, netns)
    }

    fn del(request: &Request, attachment: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
        lone::del(&KIND, request, attachment, netns)
    }

    fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
        check::check(request, attachment, netns)
    }

    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        lone::gc(&KIND, request, valid)
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        check::status(request)
    }
}

//! The `bridge` plugin: containers on a bridge of the host, each by a veth pair.
//!
//! `config` reads what is asked for, `attach` is ADD, `detach` is DEL and GC, `check` is CHECK and STATUS, `port` is the
//! VLAN side of a bridge's port and of its gateway.

mod attach;
mod check;
pub mod config;
mod detach;
mod port;
#[cfg(test)]
mod readme;
pub mod state;

use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};

/// The plugin of type `bridge`.
#[derive(Debug)]
pub struct Bridge;

impl Plugin for Bridge {
    const NAME: &'static str = "bridge";

    fn add(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        attach::add(request, attachment, netns)
    }

    fn del(request: &Request, attachment: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
        detach::del(request, attachment, netns)
    }

    fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
        check::check(request, attachment, netns)
    }

    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        detach::gc(request, valid)
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        check::status(request)
    }
}

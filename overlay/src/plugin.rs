//! The `overlay` plugin: containers on a bridge in this host's subnets of a network. Knows no other host: all it needs is in
//! the local state that the agent keeps, so it works through any outage.
//!
//! `config` reads what is asked for and where this host stands, `attach` is ADD, `detach` is DEL and GC, `check` is CHECK
//! and STATUS.

mod attach;
mod check;
pub mod config;
mod detach;
pub mod record;

use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};

/// The plugin of type `overlay`.
#[derive(Debug)]
pub struct Overlay;

impl Plugin for Overlay {
    const NAME: &'static str = "overlay";

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

//! The `ptp` plugin: a veth pair from the host to the container, and routes. No bridge: the host routes between containers.
//!
//! `config` reads what is asked for, `attach` is ADD, `detach` is DEL and GC, `check` is CHECK and STATUS.

mod attach;
mod check;
pub mod config;
mod detach;
pub mod state;

use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};

/// The plugin of type `ptp`.
#[derive(Debug)]
pub struct Ptp;

impl Plugin for Ptp {
    const NAME: &'static str = "ptp";

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

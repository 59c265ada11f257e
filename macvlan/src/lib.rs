//! The `macvlan` plugin: containers with a MAC address of their own on a link of the host, as if they were plugged into the
//! network outside.
//!
//! `config` reads what is asked for, `attach` is ADD, `shim` is the host's own way to the containers, `detach` is DEL and GC,
//! `check` is CHECK and STATUS.

mod attach;
mod check;
pub mod config;
mod detach;
mod shim;
pub mod state;

use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};

/// The plugin of type `macvlan`.
#[derive(Debug)]
pub struct Macvlan;

impl Plugin for Macvlan {
    const NAME: &'static str = "macvlan";

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

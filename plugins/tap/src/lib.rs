//! The `tap` plugin: an Ethernet interface in the container whose other end is a process there, such as a virtual machine's
//! monitor, which reads and writes frames.
//!
//! `config` reads what is asked for, `attach` is ADD, `labelled` makes the interface under a label of SELinux, `check` is CHECK
//! and STATUS. DEL and GC are those of any plugin with one link in the container.

mod attach;
mod bridge;
mod check;
pub mod config;
pub mod labelled;

use ::attach::lone::{self, Kind};
use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};

/// The plugin of type `tap`.
#[derive(Debug)]
pub struct Tap;

impl Plugin for Tap {
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

/// A process that is attached keeps its file when DEL takes the interface, and nothing comes by it any more.
pub const KIND: Kind = Kind { plugin: "tap", link: "tun" };

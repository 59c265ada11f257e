//! The plugin's verbs: what the agent is asked, and what is done when there is none.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use cni::{
    error::{Code, Error},
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};

use crate::{
    config::{Config, Family},
    moment::random,
    protocol::{Allocate, Answer, Question, ask},
    store::Store,
};

/// The plugin of type `dhcp`.
#[derive(Debug)]
pub struct Dhcp;

impl Plugin for Dhcp {
    const NAME: &'static str = "dhcp";

    fn add(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        let Config { socket, families, wishes, priority } = Config::new(request)?;
        let (attachment, netns) = (attachment.clone(), absolute(netns)?);
        let allocate = Allocate { attachment, netns, families, wishes, priority };
        match said(&socket, &Question::Allocate(allocate), ALLOCATION)? {
            Answer::Leases(leases) => Ok(united(leases.iter().map(|lease| lease.result(priority)))),
            other => anyhow::bail!("the agent answers {other:?} to a request for a lease"),
        }
    }

    /// Without an agent this process gives the lease back by itself, so that no agent takes it up later.
    fn del(request: &Request, attachment: &Attachment, _: Option<&NetnsPath>) -> anyhow::Result<()> {
        let question = Question::Release(attachment.clone());
        match ask(&Config::socket(request), &question, PATIENCE) {
            Ok(answer) => Ok(succeeded(answer).map(drop)?),
            Err(err) => {
                log::info!("no agent at {}: {err}", Config::socket(request).display());
                release_alone(attachment)
            }
        }
    }

    fn check(request: &Request, attachment: &Attachment, _: &NetnsPath) -> anyhow::Result<()> {
        let Config { socket, families, .. } = Config::new(request)?;
        let question = Question::Check { attachment: attachment.clone(), families };
        said(&socket, &question, PATIENCE).map(drop)
    }

    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        let kept = valid.0.iter().map(|target| (target.container.to_string(), target.ifname.to_string()));
        let question = Question::Collect { network: request.name.to_string(), valid: kept.collect() };
        if let Ok(answer) = ask(&Config::socket(request), &question, PATIENCE) {
            return Ok(succeeded(answer).map(drop)?);
        }
        for kept in Store::below("").all() {
            let at = &kept.attachment;
            if at.network == request.name && !valid.contains(at.container.as_str(), at.ifname.as_str()) {
                release_alone(at)?;
            }
        }
        Ok(())
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        let Config { socket, .. } = Config::new(request)?;
        match ask(&socket, &Question::Status, PATIENCE) {
            Ok(answer) => Ok(succeeded(answer).map(drop)?),
            Err(err) => Err(unreachable(&socket, &err, Code::NotAvailable).into()),
        }
    }
}

fn said(socket: &Path, question: &Question, patience: Duration) -> anyhow::Result<Answer> {
    let answer = ask(socket, question, patience);
    Ok(succeeded(answer.map_err(|err| unreachable(socket, &err, Code::TryAgainLater))?)?)
}

fn succeeded(answer: Answer) -> Result<Answer, Error> {
    match answer {
        Answer::Failed { code, why } => Err(Error::new(Code::from(code), why)),
        answer => Ok(answer),
    }
}

fn unreachable(socket: &Path, err: &io::Error, code: Code) -> Error {
    Error::new(code, format!("ask the agent (`dhcp daemon`) at {}: {err}", socket.display()))
}

/// What both families gave, the first one's first.
fn united(results: impl Iterator<Item = AddResult>) -> AddResult {
    let mut all = AddResult::default();
    for mut result in results {
        all.ips.append(&mut result.ips);
        all.routes.append(&mut result.routes);
        all.dns.nameservers.append(&mut result.dns.nameservers);
        all.dns.search.append(&mut result.dns.search);
        all.dns.options.append(&mut result.dns.options);
        if all.dns.domain.is_empty() {
            all.dns.domain = result.dns.domain;
        }
    }
    let mut seen = BTreeSet::new();
    all.dns.search.retain(|name| seen.insert(name.clone()));
    all
}

fn release_alone(attachment: &Attachment) -> anyhow::Result<()> {
    let store = Store::below("");
    for family in Family::ALL {
        let Some(kept) = store.find(attachment, family) else { continue };
        if let Err(err) = kept.release(random()) {
            // The server has it back when it ends.
            log::warn!("{attachment}: {err}");
        }
        store.forget(attachment, family).with_context(|| format!("forget the lease of {attachment}"))?;
    }
    Ok(())
}

/// The agent runs in another directory.
fn absolute(netns: &NetnsPath) -> anyhow::Result<String> {
    let path: PathBuf =
        std::path::absolute(netns.as_str()).with_context(|| format!("make {netns} absolute"))?;
    Ok(path.display().to_string())
}

/// For all that asks no server.
const PATIENCE: Duration = Duration::from_secs(30);
/// The agent gives up sooner; runtimes do as well.
const ALLOCATION: Duration = Duration::from_secs(300);

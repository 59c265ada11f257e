//! A line on standard error for everything that a runtime does.

use std::{
    io::{Write, stderr},
    time::Duration,
};

use cni::{
    error::Error,
    request::Command,
    result::{AddResult, Interface, IpConfig},
};

use crate::{
    conf::NetworkList,
    runtime::event::{Call, Event},
    term::Style,
};

/// Writes progress lines.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    quiet: bool,
    /// Of the plugins' names, so that the verbs stand in a column.
    width: usize,
    told_failure: bool,
}

impl Progress {
    /// `quiet` leaves failures and warnings.
    pub fn new(style: Style, quiet: bool, list: &NetworkList) -> Self {
        let width = list.plugins.iter().map(|plugin| plugin.plugin_type.chars().count()).max();
        Self { style, quiet, width: width.unwrap_or_default(), told_failure: false }
    }

    /// A line has said that something failed.
    pub fn has_told_failure(&self) -> bool {
        self.told_failure
    }

    pub fn report(&mut self, event: &Event<'_>) {
        self.told_failure |= matches!(event, Event::Called(Call { results: Err(_), .. }));
        if let Some(line) = self.line(event) {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(stderr(), "{line}");
        }
    }

    fn line(&self, event: &Event<'_>) -> Option<String> {
        let warning = self.style.warning();
        let line = match event {
            Event::Called(Call { results: Ok(_), .. })
            | Event::Disabled { .. }
            | Event::NotInVersion { .. }
                if self.quiet =>
            {
                return None;
            }
            Event::Calling { .. } => return None,
            Event::Called(call) => self.call(call),
            Event::Undoing => format!("{warning} ADD failed: DEL of the whole list follows"),
            Event::NotUndone { before } => format!(
                "{warning} ADD failed and is not undone, since there was before it {before}; `netctl exec del` removes both"
            ),
            Event::CacheUnreadable(err) => format!("{warning} going on without the cached result: {err}"),
            Event::ResultUnreadable(err) => format!("{warning} going on without the cached result: {err}"),
            Event::Disabled { key } => format!("{warning} nothing done: the list says {key}"),
            Event::NotInVersion { command: Command::Status, version } => {
                format!("{warning} CNI {version} has no STATUS: asking which versions the plugins speak")
            }
            Event::NotInVersion { command, version } => {
                format!("{warning} CNI {version} has no {}: the plugins were not called", command.as_str())
            }
        };
        Some(line)
    }

    fn call(&self, call: &Call<'_>) -> String {
        let Call { plugin, command, took, results } = call;
        let (width, verb) = (self.width, command.as_str());
        match results {
            Ok((before, after)) => {
                let news = after.map(|after| news(self.style, *before, after)).unwrap_or_default();
                let line = format!("{} {plugin:width$}  {verb}  {}  {news}", self.style.good(), shown(*took));
                line.trim_end().to_owned()
            }
            Err(err) => {
                let Error { code, .. } = err;
                let text = err.to_string();
                // The line begins with the plugin's name.
                let text = text.strip_prefix(&format!("{plugin}: ")).unwrap_or(&text);
                format!("{} {plugin:width$}  {verb}  code {}: {text}", self.style.bad(), u32::from(*code))
            }
        }
    }
}

fn shown(took: Duration) -> String {
    format!("{:>3} ms", took.as_millis())
}

/// What the result has that the one before had not: `veth0c1e ↔ eth0, 10.244.1.12/24`.
fn news(style: Style, before: Option<&AddResult>, after: &AddResult) -> String {
    let known = |interface: &Interface| before.is_some_and(|before| before.interfaces.contains(interface));
    let new = |inside: bool| {
        let side = move |interface: &&Interface| interface.sandbox.is_empty() != inside;
        after.interfaces.iter().filter(|interface| !known(interface)).filter(side)
    };
    let inside: Vec<_> = new(true).map(|interface| interface.name.as_str()).collect();
    // A mode lists what is shared, such as the bridge, before the attachment's own.
    let outside = new(false).next_back().map(|interface| interface.name.as_str());
    let mut parts = Vec::new();
    match (outside, inside.join(" ")) {
        (None, inside) if inside.is_empty() => {}
        (None, inside) => parts.push(inside),
        (Some(outside), inside) if inside.is_empty() => parts.push(outside.to_owned()),
        (Some(outside), inside) => parts.push(format!("{outside} {} {inside}", style.pair())),
    }
    let known = |ip: &IpConfig| before.is_some_and(|before| before.ips.contains(ip));
    parts.extend(after.ips.iter().filter(|ip| !known(ip)).map(|ip| ip.address.to_string()));
    parts.join(", ")
}

#[cfg(test)]
mod tests;

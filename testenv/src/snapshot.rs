//! Taking stock, before and after: what a network namespace and the state directories hold, one line of text a thing.
//! Leaves out what the kernel derives or changes by itself: link-local addresses, its own routes, counters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs, io};

mod kernel_lines;

/// What was there at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Such as `link cni0 bridge mtu 1500 up` or `file /run/tenon/attach/1f`.
    pub lines: BTreeSet<String>,
    /// Values by name such as `net.ipv4.ip_forward`. They come and go with links, so that only changes count.
    pub sysctls: BTreeMap<String, String>,
}

/// What differs between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub added: BTreeSet<String>,
    pub removed: BTreeSet<String>,
    /// Name, value before, value after.
    pub sysctls: BTreeMap<String, (Option<String>, String)>,
}

impl Snapshot {
    /// The addresses of a link, as `10.0.0.1/24`; empty where there is no such link.
    pub fn addresses(&self, link: &str) -> Vec<String> {
        let suffix = format!(" dev {link}");
        let own = self.lines.iter().filter_map(|line| line.strip_prefix("address ")?.strip_suffix(&suffix));
        own.map(ToString::to_string).collect()
    }

    pub fn until(&self, later: &Self) -> Change {
        let sysctls = later.sysctls.iter().filter_map(|(name, after)| {
            let before = self.sysctls.get(name);
            (before != Some(after)).then(|| (name.clone(), (before.cloned(), after.clone())))
        });
        Change {
            added: later.lines.difference(&self.lines).cloned().collect(),
            removed: self.lines.difference(&later.lines).cloned().collect(),
            sysctls: sysctls.collect(),
        }
    }

    pub fn apply(&mut self, change: Change) {
        let Change { added, removed, sysctls } = change;
        self.lines.retain(|line| !removed.contains(line));
        self.lines.extend(added);
        self.sysctls.extend(sysctls.into_iter().map(|(name, (_, after))| (name, after)));
    }
}

impl Change {
    /// Drops what may stay, and sysctls that were not there before.
    pub fn without(mut self, allowed: &Allowed) -> Self {
        self.added.retain(|line| !allowed.covers(line));
        self.removed.retain(|line| !allowed.covers(line));
        self.sysctls
            .retain(|name, (before, _)| before.is_some() && !allowed.covers(&format!("sysctl {name}")));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.sysctls.is_empty()
    }
}

/// What may differ.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// Each names the lines that it is in, from the beginning of a word to the end of one. Empty names all.
    pub words: Vec<String>,
    /// The suite's nft tables with their chains, rules and sets, which are made once; never an element.
    pub tables: bool,
}

impl Allowed {
    fn covers(&self, line: &str) -> bool {
        let of_tables = TABLES.iter().any(|table| line.starts_with(table)) && !line.contains("elements = {");
        self.tables && of_tables || self.words.iter().any(|words| has_words(line, words))
    }
}

const TABLES: [&str; 2] = ["nft table inet tenon", "nft table bridge tenon"];

fn has_words(line: &str, words: &str) -> bool {
    if words.is_empty() {
        return true;
    }
    let edge = |text: Option<char>| text.is_none_or(|c| [' ', '/', '.'].contains(&c));
    line.match_indices(words)
        .any(|(at, _)| edge(line[..at].chars().next_back()) && edge(line[at + words.len()..].chars().next()))
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.added {
            writeln!(f, "  + {line}")?;
        }
        for line in &self.removed {
            writeln!(f, "  - {line}")?;
        }
        for (name, (before, after)) in &self.sysctls {
            writeln!(f, "  ~ sysctl {name}: {} -> {after}", before.as_deref().unwrap_or("(none)"))?;
        }
        Ok(())
    }
}

/// What the calling thread's network namespace holds.
pub fn of_namespace() -> io::Result<Snapshot> {
    let mut lines = kernel_lines::read()?;
    lines.extend(ruleset());
    Ok(Snapshot { lines, sysctls: sysctls() })
}

/// Every path below `roots`, as `file <path>` or `dir <path>`, but nothing below one of `except`.
pub fn of_files(roots: &[&Path], except: &[PathBuf]) -> Snapshot {
    let mut lines = BTreeSet::new();
    for root in roots {
        walk(root, except, &mut |path, is_dir| {
            lines.insert(format!("{} {}", if is_dir { "dir" } else { "file" }, path.display()));
        });
    }
    Snapshot { lines, ..Snapshot::default() }
}

/// A file that goes away meanwhile is not there.
fn walk(dir: &Path, except: &[PathBuf], each: &mut impl FnMut(&Path, bool)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if except.contains(&path) {
            continue;
        }
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        each(&path, is_dir);
        if is_dir {
            walk(&path, except, each);
        }
    }
}

/// The nft ruleset, each line behind its table and chain. Empty where there is no nft: then it is not compared.
fn ruleset() -> BTreeSet<String> {
    let output = Command::new("nft").args(["-s", "list", "ruleset"]).output();
    output.map_or_else(|_| BTreeSet::new(), |output| ruleset_lines(&String::from_utf8_lossy(&output.stdout)))
}

fn ruleset_lines(text: &str) -> BTreeSet<String> {
    let (mut inside, mut lines) = (Vec::<String>::new(), BTreeSet::new());
    let mut rest = text.lines().map(str::trim).filter(|line| !line.is_empty());
    while let Some(line) = rest.next() {
        if line == "}" {
            inside.pop();
            continue;
        }
        let mut whole = line.to_string();
        // The elements of a set go over several lines.
        while whole.starts_with("elements = {") && !whole.ends_with('}') {
            let Some(more) = rest.next() else { break };
            whole = format!("{whole} {more}");
        }
        let opened = whole.strip_suffix(" {").map(ToString::to_string);
        inside.push(opened.clone().unwrap_or(whole));
        lines.insert(format!("nft {}", inside.join(" : ")));
        if opened.is_none() {
            inside.pop();
        }
    }
    lines
}

const SYSCTL_ROOTS: [&str; 5] =
    ["net/ipv4/conf", "net/ipv6/conf", "net/bridge", "net/netfilter", "net/ipv4/ip_forward"];
/// Counters, and what has no value until it is set.
const SYSCTLS_LEFT_OUT: [&str; 2] = ["nf_conntrack_count", "stable_secret"];

fn sysctls() -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for root in SYSCTL_ROOTS {
        let root = Path::new("/proc/sys").join(root);
        read_sysctl(&root, &mut values);
        walk(&root, &[], &mut |path, is_dir| {
            if !is_dir {
                read_sysctl(path, &mut values);
            }
        });
    }
    values
}

fn read_sysctl(path: &Path, into: &mut BTreeMap<String, String>) {
    let left_out = path.file_name().is_some_and(|name| SYSCTLS_LEFT_OUT.iter().any(|out| name == *out));
    let name = path.strip_prefix("/proc/sys").unwrap_or(path).to_string_lossy().replace('/', ".");
    if let (false, Ok(value)) = (left_out, fs::read_to_string(path)) {
        into.insert(name, value.trim().to_string());
    }
}

#[cfg(test)]
mod tests;

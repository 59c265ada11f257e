//! What is wrong on a node, and what mends it: rules over [`Facts`], one a code. Pure; asks and changes nothing itself.

use std::net::IpAddr;

use cni::names::Attachment;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    conf::NetworkList,
    facts::{Facts, attachment::Attached},
};

pub mod lost;
pub mod mend;
pub mod rules;

use lost::Lost;
use mend::Mend;

/// A rule of the doctor.
pub struct Rule {
    /// Stable: scripts and people go by it.
    pub code: &'static str,
    /// What is wrong, in a line.
    pub summary: &'static str,
    /// Why it matters and where it comes from.
    pub text: &'static str,
    pub remedy: Remedy,
    pub check: fn(&Facts) -> Vec<Finding>,
}

/// Who mends what a rule finds, and how; or why `doctor --fix` leaves it.
#[derive(Debug, Clone, Copy)]
pub enum Remedy {
    /// `--fix` does.
    Fix(&'static str),
    /// `--fix` does in some cases.
    Partly(&'static str),
    /// A person, with the command that is shown.
    Person(&'static str),
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Error,
    Warning,
    Info,
}

/// Where it is, as far as that applies.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spot {
    /// As `ip netns` names it; `host` is the node's own.
    pub netns: Option<String>,
    pub device: Option<String>,
    pub file: Option<String>,
    /// An nftables rule or chain, as `nft` names it.
    pub rule: Option<String>,
}

/// Something that is wrong.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Where another node than the one that looks.
    pub node: Option<String>,
    pub severity: Severity,
    pub code: &'static str,
    pub spot: Spot,
    pub message: String,
    pub cause: String,
    pub mend: Option<Mend>,
    pub evidence: Vec<String>,
    /// What of whose packets is lost by it.
    pub losses: Vec<(Attachment, Lost)>,
}

/// A finding on its way from the node that it is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wire {
    code: String,
    severity: Severity,
    spot: Spot,
    message: String,
    cause: String,
    fix: Option<String>,
    evidence: Vec<String>,
}

impl Remedy {
    /// In a word and a sentence: who does it, and what, or why not netctl.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Fix(what) => ("--fix", what),
            Self::Partly(what) => ("partly", what),
            Self::Person(why) => ("a person", why),
        }
    }
}

impl Severity {
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

impl Spot {
    pub fn host() -> Self {
        Self { netns: Some("host".to_owned()), ..Self::default() }
    }

    /// A device of the host.
    pub fn device(device: &str) -> Self {
        Self { device: Some(device.to_owned()), ..Self::host() }
    }

    /// A device of a container.
    pub fn inside(netns: &str, device: &str) -> Self {
        Self { netns: Some(netns.to_owned()), device: Some(device.to_owned()), ..Self::default() }
    }

    /// A network's configuration.
    pub fn conf(list: &NetworkList) -> Self {
        Self { file: Some(list.file.display().to_string()), ..Self::default() }
    }
}

impl Finding {
    /// An error; the code is filled in by [`examine`].
    pub fn new(spot: Spot, message: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            node: None,
            severity: Severity::Error,
            code: "",
            spot,
            message: message.into(),
            cause: cause.into(),
            mend: None,
            evidence: Vec::new(),
            losses: Vec::new(),
        }
    }

    #[must_use]
    pub fn severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    #[must_use]
    pub fn mend(self, mend: Mend) -> Self {
        Self { mend: Some(mend), ..self }
    }

    #[must_use]
    pub fn evidence(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    /// The container loses that by it.
    #[must_use]
    pub fn loses(mut self, attached: &Attached, lost: Lost) -> Self {
        self.losses.push((attached.key.clone(), lost));
        self
    }

    /// Whether the container does not reach `address` because of it.
    pub fn cuts_off(&self, facts: &Facts, attached: &Attached, address: IpAddr) -> bool {
        self.losses.iter().any(|(key, lost)| *key == attached.key && lost.has(facts, attached, address))
    }

    pub fn wire(&self) -> Wire {
        let Self { node: _, severity, code, spot, message, cause, mend, evidence, losses: _ } = self.clone();
        let fix = mend.as_ref().map(Mend::command);
        Wire { code: code.to_owned(), severity, spot, message, cause, fix, evidence }
    }

    /// What the node `node` found; nothing where it goes by other rules. Its command is to be run there.
    pub fn of_peer(node: &str, wire: Wire) -> Option<Self> {
        let Wire { code, severity, spot, message, cause, fix, evidence } = wire;
        let code = rules::find(&code)?.code;
        let (node, mend) = (Some(node.to_owned()), fix.map(Mend::ByHand));
        Some(Self { node, severity, code, spot, message, cause, mend, evidence, losses: Vec::new() })
    }

    /// As scripts read it.
    pub fn json(&self, node: &str) -> Value {
        let Self { node: of, severity, code, spot, message, cause, mend, evidence, losses: _ } = self;
        let node = of.as_deref().unwrap_or(node);
        let Spot { netns, device, file, rule } = spot;
        json!({
            "code": code, "severity": severity.word(),
            "where": {"node": node, "netns": netns, "device": device, "file": file, "rule": rule},
            "message": message, "cause": cause, "fix": mend.as_ref().map(Mend::command), "evidence": evidence,
        })
    }
}

/// Everything that the rules find, the worst first.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = unsorted(facts);
    sort(&mut findings);
    findings
}

/// The worst first, then by code and place.
pub fn sort(findings: &mut [Finding]) {
    findings
        .sort_by(|a, b| (a.severity, a.code, &a.node, &a.spot).cmp(&(b.severity, b.code, &b.node, &b.spot)));
}

fn unsorted(facts: &Facts) -> Vec<Finding> {
    let of = |rule: &Rule| {
        (rule.check)(facts).into_iter().map(|found| Finding { code: rule.code, ..found }).collect::<Vec<_>>()
    };
    rules::ALL.iter().flat_map(of).collect()
}

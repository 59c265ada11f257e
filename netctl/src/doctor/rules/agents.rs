//! Rules about overlayd, the agent of networks that span hosts.

use overlay::client::SOCKET;

use crate::{
    doctor::{Finding, Remedy, Rule, Spot, mend::Mend},
    facts::Facts,
};

pub(super) const AGENT_DOWN: Rule = Rule {
    code: "agent-down",
    summary: "overlayd does not run",
    text: "Containers that are attached go on, and new ones attach. But nodes that come, go or move are not followed, and nobody puts back what somebody \
           else takes out of the kernel.",
    remedy: Remedy::Person("starting a service is for the service manager and who set it up"),
    check: agent_down,
};

fn agent_down(facts: &Facts) -> Vec<Finding> {
    let silent: Vec<_> = facts.kept.iter().filter_map(|kept| Some((kept, kept.silent.as_ref()?))).collect();
    let Some((_, why)) = silent.first() else { return Vec::new() };
    let spot = Spot { file: Some(SOCKET.to_owned()), ..Spot::host() };
    let found = Finding::new(spot, "overlayd does not answer", (*why).clone());
    let found =
        silent.iter().fold(found, |found, (kept, _)| found.evidence(format!("keeps {}", kept.state.network)));
    vec![found.mend(Mend::ByHand("systemctl restart overlayd".to_owned()))]
}

pub(super) const DIRECTORY_UNREACHABLE: Rule = Rule {
    code: "directory-unreachable",
    summary: "overlayd does not reach the directory of a network",
    text: "The agent keeps what it knew last, and tries again. Nodes that come, go or move meanwhile are not followed, and a new node gets no subnet.",
    remedy: Remedy::Person("the directory is on other nodes"),
    check: directory_unreachable,
};

fn directory_unreachable(facts: &Facts) -> Vec<Finding> {
    let lost = facts.kept.iter().filter_map(|kept| {
        let status = kept.status.as_ref().filter(|status| status.directory == "lost")?;
        let message = format!("the directory of network {} is out of reach", kept.state.network);
        let cause = status.directory_error.clone().unwrap_or_default();
        let found = Finding::new(Spot::device(&kept.state.device), message, cause);
        let since = status.directory_lost_seconds.unwrap_or_default();
        let command = format!("netctl overlay status {}", kept.state.network);
        Some(found.evidence(format!("for {since} s")).mend(Mend::ByHand(command)))
    });
    lost.collect()
}

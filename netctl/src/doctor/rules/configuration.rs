//! Rules about the configuration files.

use std::path::Path;

use crate::{
    doctor::{Finding, Rule, Spot},
    facts::Facts,
};

pub(super) const CONFIG_INVALID: Rule = Rule {
    code: "config-invalid",
    summary: "a network's configuration cannot be used",
    text: "The file is no JSON, or a key has a value that the plugin refuses. libcni stops at the first broken file of the directory, so that it also hides \
           the networks in the files after it.",
    check: config_invalid,
};

fn config_invalid(facts: &Facts) -> Vec<Finding> {
    let broken = facts.broken.iter().map(|err| {
        let spot = Spot { file: Some(err.file.display().to_string()), ..Spot::default() };
        let field = if err.field.is_empty() { String::new() } else { format!("{}: ", err.field) };
        let found = Finding::new(spot, err.to_string(), format!("{field}{}", err.why));
        let position = err.position.map(|position| format!("line:column {position}"));
        position.into_iter().fold(found, Finding::evidence)
    });
    let refused = facts.networks.iter().filter_map(|network| {
        let why = network.refused.as_ref()?;
        let message = format!("{}: {}: {why}", network.list.file.display(), network.driver);
        Some(Finding::new(Spot::conf(&network.list), message, why.clone()))
    });
    broken.chain(refused).collect()
}

pub(super) const PLUGIN_MISSING: Rule = Rule {
    code: "plugin-missing",
    summary: "a network names a plugin that is not installed",
    text: "A runtime looks for the program that `type` names in each directory of CNI_PATH (/opt/cni/bin where nobody says otherwise). It is not there, or \
           not executable: every ADD of the network fails.",
    check: plugin_missing,
};

fn plugin_missing(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for network in &facts.networks {
        let types = network.list.plugins.iter().map(|plugin| plugin.plugin_type.as_str());
        for name in types.chain(network.ipam.as_deref()).filter(|name| !name.is_empty()) {
            if facts.plugins.iter().any(|dir| is_program(&dir.join(name))) {
                continue;
            }
            let dirs: Vec<_> = facts.plugins.iter().map(|dir| dir.display().to_string()).collect();
            let message = format!("network {} needs the plugin {name}", network.list.name);
            let cause = format!("no program {name} in {}", dirs.join(", "));
            findings.push(Finding::new(Spot::conf(&network.list), message, cause));
        }
    }
    findings
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

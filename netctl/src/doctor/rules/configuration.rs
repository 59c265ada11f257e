//! Rules about the configuration files.

use std::path::Path;

use crate::{
    doctor::{Finding, Remedy, Rule, Spot, mend::Mend},
    facts::Facts,
};

pub(super) const CONFIG_INVALID: Rule = Rule {
    code: "config-invalid",
    summary: "a network's configuration cannot be used",
    text: "The file is no JSON, or a key has a value that the plugin refuses. libcni stops at the first broken file of the directory, so that it also hides \
           the networks in the files after it.",
    remedy: Remedy::Person("a configuration file is its author's"),
    check: config_invalid,
};

fn config_invalid(facts: &Facts) -> Vec<Finding> {
    let broken = facts.broken.iter().map(|err| {
        let spot = Spot { file: Some(err.file.display().to_string()), ..Spot::default() };
        let field = if err.field.is_empty() { String::new() } else { format!("{}: ", err.field) };
        let line = err.position.map(|position| format!("+{} ", position.line)).unwrap_or_default();
        let edit = Mend::ByHand(format!("${{EDITOR:-vi}} {line}{}", err.file.display()));
        let found = Finding::new(spot, err.to_string(), format!("{field}{}", err.why)).mend(edit);
        let position = err.position.map(|position| format!("line:column {position}"));
        position.into_iter().fold(found, Finding::evidence)
    });
    let refused = facts.networks.iter().filter_map(|network| {
        let why = network.refused.as_ref()?;
        let message = format!("{}: {}: {why}", network.list.file.display(), network.driver);
        let edit = Mend::ByHand(format!("${{EDITOR:-vi}} {}", network.list.file.display()));
        Some(Finding::new(Spot::conf(&network.list), message, why.clone()).mend(edit))
    });
    broken.chain(refused).collect()
}

pub(super) const PLUGIN_MISSING: Rule = Rule {
    code: "plugin-missing",
    summary: "a network names a plugin that is not installed",
    text: "A runtime looks for the program that `type` names in each directory of CNI_PATH (/opt/cni/bin where nobody says otherwise). It is not there, or \
           not executable: every ADD of the network fails.",
    remedy: Remedy::Person("netctl has no programs to install"),
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
            let dir = dirs.first().map_or("/opt/cni/bin", String::as_str);
            let install = Mend::ByHand(format!("install -m 755 {name} {dir}/"));
            findings.push(Finding::new(Spot::conf(&network.list), message, cause).mend(install));
        }
    }
    findings
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

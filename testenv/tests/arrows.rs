//! Which crate may depend on which: the arrows of ARCHITECTURE.md, held against cargo's own view.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const CORE: [&str; 4] = ["attach", "cni", "ipam", "kernel"];

/// Whether `from` may use `to` in what it ships. Every crate that is not named is a mode or a set of plugins.
fn may_use(from: &str, to: &str) -> bool {
    match from {
        "cni" | "kernel" => false,
        "ipam" => to == "cni",
        "attach" => ["cni", "kernel", "ipam"].contains(&to),
        "netctl" => to != "testenv",
        "testenv" => true,
        _ => CORE.contains(&to),
    }
}

/// Dependencies between our crates: from, to, and whether it is for tests alone.
fn arrows() -> BTreeSet<(String, String, bool)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages: BTreeMap<String, &Vec<Value>> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| (text(package, "name"), package["dependencies"].as_array().expect("dependencies")))
        .collect();
    let mut arrows = BTreeSet::new();
    for (from, dependencies) in &packages {
        for dependency in dependencies.iter().filter(|dependency| !dependency["path"].is_null()) {
            arrows.insert((from.clone(), text(dependency, "name"), dependency["kind"] == "dev"));
        }
    }
    arrows
}

fn text(of: &Value, key: &str) -> String {
    of[key].as_str().expect(key).to_string()
}

#[test]
fn no_crate_uses_what_it_must_not_know() {
    let arrows = arrows();
    let known = |from: &str, to: &str| arrows.contains(&(from.to_string(), to.to_string(), false));
    assert!(known("ipam", "cni") && known("bridge", "attach"), "the workspace is not what this test reads");
    let wrong: Vec<String> = arrows
        .iter()
        .filter(|(from, to, for_tests)| !(may_use(from, to) || *for_tests && to == "testenv"))
        .map(|(from, to, _)| format!("{from} -> {to}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

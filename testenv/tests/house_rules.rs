//! Rules of CONTRIBUTING.md that neither the compiler nor clippy holds, held by reading the sources.

use std::fs;
use std::path::{Path, PathBuf};

const LONGEST_FILE: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_path_buf()
}

/// The files of the workspace named `*.<extension>`, paths from its root, with their text. This file is left out: it
/// names what it forbids.
fn files(extension: &str) -> Vec<(String, String)> {
    let (root, mut found) = (root(), Vec::new());
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory of ours").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                directories.push(path);
            } else if path.extension().is_some_and(|own| own == extension) && !path.ends_with(file!()) {
                let relative = path.strip_prefix(&root).expect("below the root").display().to_string();
                found.push((relative, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    assert!(found.len() > 5, "the workspace is not where this test looks");
    found
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// The number of the first line that is test code, in a file that ends in its tests.
fn tests_begin(path: &str, text: &str) -> usize {
    if is_test_file(path) {
        return 0;
    }
    text.lines().position(|line| line.trim() == "#[cfg(test)]").unwrap_or(usize::MAX)
}

/// Every line with `word` in it that `counts`, as `path:line: text`.
fn lines_with(word: &str, counts: impl Fn(&str, bool) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files("rs") {
        let tests = tests_begin(&path, &text);
        for (number, line) in text.lines().enumerate() {
            if line.contains(word) && counts(&path, number >= tests) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

#[track_caller]
fn none(found: &[String]) {
    assert!(found.is_empty(), "{} of them:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_plugin_starts_a_process_but_to_delegate() {
    let may =
        ["testenv/", "netctl/", "plugins/cni/src/exec", "plugins/tap/src/labelled", "overlay/examples/"];
    none(&lines_with("Command::new", |path, test| !test && !may.iter().any(|may| path.starts_with(may))));
}

#[test]
fn no_test_sleeps() {
    let polls = "testenv/src/wait.rs";
    none(&lines_with("thread::sleep", |path, test| test || path.starts_with("testenv/") && path != polls));
}

#[test]
fn no_test_is_ignored() {
    none(&lines_with("#[ignore", |_, _| true));
}

/// A name from a private module of the same crate has one path all the same.
#[test]
fn no_name_of_another_crate_is_given_on() {
    let found = lines_with("pub use ", |_, _| true);
    let given_on = found
        .into_iter()
        .filter(|line| !line.contains("pub use self::") && !line.contains("pub use super::"));
    none(&given_on.collect::<Vec<_>>());
}

#[test]
fn every_file_says_what_it_is() {
    let silent =
        files("rs").into_iter().filter(|(path, text)| !is_test_file(path) && !text.starts_with("//!"));
    none(&silent.map(|(path, _)| path).collect::<Vec<_>>());
}

#[test]
fn no_file_is_too_long() {
    let long = files("rs").into_iter().filter(|(_, text)| text.lines().count() > LONGEST_FILE);
    none(&long.map(|(path, text)| format!("{path}: {} lines", text.lines().count())).collect::<Vec<_>>());
}

/// A plugin that can start threads behind tokio's back cannot use setns(2).
#[test]
fn tokio_stays_on_one_thread() {
    let mut found = Vec::new();
    for (path, text) in files("toml") {
        let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        found.extend(
            code.filter(|line| line.contains("rt-multi-thread")).map(|line| format!("{path}: {line}")),
        );
    }
    none(&found);
}

#[test]
fn versions_of_dependencies_live_in_the_workspace() {
    let mut elsewhere = Vec::new();
    for (path, text) in files("toml").into_iter().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
        let mut in_dependencies = false;
        for line in text.lines() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
                elsewhere.push(format!("{path}: {line}"));
            }
        }
    }
    none(&elsewhere);
}

//! Tests that cannot run here: each is written down with its reason, so that none counts as passed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::{env, fs, thread};

/// Names the file that skips are appended to, one `package::binary::test<TAB>reason` a line. Set by `cargo testenv test`.
pub const FILE_VARIABLE: &str = "TENON_SKIPS";

/// Where cargo tells a test what package it is of; whoever starts one without cargo sets it too.
pub const PACKAGE_VARIABLE: &str = "CARGO_PKG_NAME";

/// Records that the calling test did not run, and why. `name` stands in where the thread has no test's name.
///
/// # Panics
/// When the file named by [`FILE_VARIABLE`] cannot be written: the test would count as passed.
pub fn record(name: &str, reason: &str) {
    let test = match thread::current().name() {
        Some(test) if test != "main" => test.to_string(),
        _ => name.to_string(),
    };
    eprintln!("skipped {test}: {reason}");
    let Some(file) = env::var_os(FILE_VARIABLE) else { return };
    let line = format!("{}::{test}\t{}\n", binary(), reason.replace(['\n', '\t'], " "));
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .and_then(|mut to| to.write_all(line.as_bytes()));
    if let Err(cause) = written {
        panic!("record skip of {test} in {}: {cause}", file.display());
    }
}

/// The skips recorded in `file`, reason by test. A missing file is no skips.
pub fn read(file: &Path) -> io::Result<BTreeMap<String, String>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => String::new(),
        Err(cause) => return Err(cause),
    };
    Ok(parse(&text))
}

/// The same of a text, in which other lines may stand.
#[must_use]
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    pairs.map(|(test, reason)| (test.to_string(), reason.to_string())).collect()
}

/// Package, which cargo says in the environment, and test binary, without cargo's hash: tests of two crates may have one name.
fn binary() -> String {
    let path = env::current_exe().unwrap_or_default();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = stem.rsplit_once('-').map_or(stem.as_str(), |(name, _)| name);
    format!("{}::{name}", env::var(PACKAGE_VARIABLE).unwrap_or_default())
}

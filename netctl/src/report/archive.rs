//! Reports as an archive: a directory a node, a file a subject. Knows nothing of what is in them.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Map, Value};

/// As the name of the file asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
}

impl Packing {
    /// `.tar`, `.tar.gz` or `.tgz`; none of any other name. Standard output gets a plain one.
    pub fn of(file: &Path) -> Option<Self> {
        let name = file.file_name()?.to_str()?;
        let ends = |end: &str| name.ends_with(end);
        match () {
            () if ends(".tar.gz") || ends(".tgz") => Some(Self::Gzip),
            () if ends(".tar") || name == "-" => Some(Self::Plain),
            () => None,
        }
    }
}

/// Writes it to a file that only its owner may read, or to standard output for `-`.
pub fn save(reports: &[Value], file: &Path, packing: Packing) -> io::Result<()> {
    if file.as_os_str() == "-" {
        return write(reports, io::stdout().lock(), packing).map(drop);
    }
    let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    write(reports, out, packing)?.sync_all()
}

fn write<W: Write>(reports: &[Value], out: W, packing: Packing) -> io::Result<W> {
    match packing {
        Packing::Plain => append(reports, out),
        Packing::Gzip => append(reports, GzEncoder::new(out, Compression::default()))?.finish(),
    }
}

fn append<W: Write>(reports: &[Value], out: W) -> io::Result<W> {
    let mut archive = tar::Builder::new(out);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    for report in reports {
        let node = report["node"].as_str().unwrap_or("node").replace('/', "_");
        for (name, text) in files(report) {
            let mut header = tar::Header::new_gnu();
            header.set_size(u64::try_from(text.len()).map_err(io::Error::other)?);
            header.set_mode(0o600);
            header.set_mtime(now);
            archive.append_data(&mut header, format!("netctl-report/{node}/{name}"), text.as_bytes())?;
        }
    }
    archive.into_inner()
}

/// A file for each list and object, text for lists of lines, and what is short together.
fn files(report: &Value) -> Vec<(String, String)> {
    let (mut files, mut summary) = (Vec::new(), Map::new());
    for (key, value) in report.as_object().into_iter().flatten() {
        let lines: Option<Vec<&str>> = value
            .as_array()
            .filter(|all| !all.is_empty())
            .and_then(|all| all.iter().map(Value::as_str).collect());
        match (lines, value) {
            (Some(lines), _) => files.push((format!("{key}.txt"), format!("{}\n", lines.join("\n")))),
            (None, Value::Array(_)) => files.push((format!("{key}.json"), format!("{value:#}\n"))),
            (None, short) => {
                summary.insert(key.clone(), short.clone());
            }
        }
    }
    files.push(("summary.json".to_owned(), format!("{:#}\n", Value::Object(summary))));
    files
}

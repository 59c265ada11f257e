//! The reply on standard output, in the format that was asked for.

use std::io::{Write, stdout};

use serde_json::{Value, json};

use crate::exit::Failure;

/// `-o` as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
    Csv,
    /// Of `graph` only, as are the next three
    Svg,
    Html,
    Dot,
    Mermaid,
}

/// A picture's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    Svg,
    Html,
    Dot,
    Mermaid,
}

impl Wanted {
    /// Pictures are in no format of replies.
    pub fn parts(self) -> (Format, Option<Drawing>) {
        match self {
            Self::Table => (Format::Table, None),
            Self::Wide => (Format::Wide, None),
            Self::Json => (Format::Json, None),
            Self::Yaml => (Format::Yaml, None),
            Self::Name => (Format::Name, None),
            Self::Csv => (Format::Csv, None),
            Self::Svg => (Format::Table, Some(Drawing::Svg)),
            Self::Html => (Format::Table, Some(Drawing::Html)),
            Self::Dot => (Format::Table, Some(Drawing::Dot)),
            Self::Mermaid => (Format::Table, Some(Drawing::Mermaid)),
        }
    }
}

/// The format of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
    Csv,
}

/// Writes to standard output. A reader who has gone away is no error.
pub fn write(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The document of `-o json` and `-o yaml`: `items` under a version and a kind.
pub fn document(kind: &str, items: Vec<Value>) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "items": items})
}

/// A reply in every format: `-o name` prints `name` of each item.
pub struct Reply {
    pub kind: &'static str,
    pub items: Vec<Value>,
    /// What a script feeds to the next call, one for each item.
    pub names: Vec<String>,
    /// Without columns where there is no table: people then get YAML.
    pub table: Table,
}

/// Columns for people. `wide` ones only show with `-o wide`.
#[derive(Debug, Default)]
pub struct Table {
    pub columns: &'static [&'static str],
    pub wide: &'static [&'static str],
    /// As many cells as `columns` and `wide` together.
    pub rows: Vec<Vec<String>>,
}

/// How a reply is laid out.
#[derive(Debug, Clone)]
pub struct Layout {
    pub format: Format,
    /// Of a table, these columns in this order; all that the format has if there are none.
    pub columns: Vec<String>,
    pub headers: bool,
    /// Of which node each row is, where there are several.
    pub nodes: Option<Vec<String>>,
}

impl Layout {
    pub fn new(format: Format) -> Self {
        Self { format, columns: Vec::new(), headers: true, nodes: None }
    }
}

impl Reply {
    /// A layout that it does not have is the user's mistake.
    pub fn write(&self, layout: &Layout) -> Result<(), Failure> {
        write(&self.text(layout).map_err(Failure::Usage)?);
        Ok(())
    }

    /// Says which column there is not.
    pub fn text(&self, layout: &Layout) -> Result<String, String> {
        let document = || document(self.kind, self.items.clone());
        let is_table = !self.table.columns.is_empty();
        Ok(match layout.format {
            Format::Json => format!("{}\n", document()),
            Format::Yaml => yaml(&document()),
            Format::Name => self.names.iter().map(|name| format!("{name}\n")).collect(),
            Format::Csv if !is_table => return Err("-o csv: this is no table".to_owned()),
            Format::Table | Format::Wide if !is_table => yaml(&document()),
            Format::Table | Format::Wide => aligned(&self.table.lines(layout)?),
            Format::Csv => csv(&self.table.lines(layout)?),
        })
    }
}

/// Lines with columns as wide as their widest cell; for a table whose columns depend on what it shows.
pub fn columns(header: &[String], rows: &[Vec<String>]) -> String {
    let lines: Vec<_> = [header.to_vec()].into_iter().chain(rows.iter().cloned()).collect();
    aligned(&lines)
}

/// As RFC 4180 has it, with line ends of Unix.
pub fn csv(lines: &[Vec<String>]) -> String {
    let cell = |text: &String| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.clone(),
    };
    let line = |cells: &Vec<String>| format!("{}\n", cells.iter().map(cell).collect::<Vec<_>>().join(","));
    lines.iter().map(line).collect()
}

/// An empty cell is `-`.
fn aligned(lines: &[Vec<String>]) -> String {
    let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let width = |column: usize| {
        let widths = lines.iter().filter_map(|line| Some(cell(line.get(column)?).chars().count()));
        widths.max().unwrap_or_default()
    };
    let count = lines.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<_> = (0..count).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(text, &width)| format!("{:width$}", cell(text)));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

impl Table {
    /// The header, unless it is not wanted, and the rows, with the columns that are.
    fn lines(&self, layout: &Layout) -> Result<Vec<Vec<String>>, String> {
        let nodes = layout.nodes.as_deref().filter(|_| self.columns[0] != NODE);
        let added = nodes.map(|_| NODE);
        let all: Vec<_> = added.iter().chain(self.columns).chain(self.wide).copied().collect();
        let shown = match layout.format {
            Format::Table => all.len() - self.wide.len(),
            _ => all.len(),
        };
        let wanted: Vec<usize> = match &layout.columns[..] {
            [] => (0..shown).collect(),
            named => {
                let place = |name: &String| {
                    let found = all.iter().position(|it| it.eq_ignore_ascii_case(name));
                    found.ok_or_else(|| format!("--columns: no {name:?}; there are {}", all.join(",")))
                };
                named.iter().map(place).collect::<Result<_, _>>()?
            }
        };
        let header = layout.headers.then(|| all.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let named = |(nth, row): (usize, &Vec<String>)| {
            let node = nodes.map(|nodes| nodes.get(nth).cloned().unwrap_or_default());
            node.into_iter().chain(row.iter().cloned()).collect()
        };
        let lines = header.into_iter().chain(self.rows.iter().enumerate().map(named));
        let picked = |line: Vec<String>| {
            wanted.iter().map(|&nth| line.get(nth).cloned().unwrap_or_default()).collect()
        };
        Ok(lines.map(picked).collect())
    }
}

/// `value` as YAML, block style; its scalars are JSON's, which YAML contains.
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    append_yaml(&mut text, value, 0);
    text
}

fn append_yaml(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                text.push_str(&format!("{indent}{}:", yaml_key(key)));
                append_nested(text, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                text.push_str(&format!("{indent}-"));
                append_nested(text, item, depth + 1);
            }
        }
        scalar => text.push_str(&format!("{indent}{scalar}\n")),
    }
}

/// Plain where no YAML parser can take it for anything but a string.
fn yaml_key(key: &str) -> String {
    let is_word = key.len() > 1 && key.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let is_special =
        ["null", "true", "false", "yes", "no", "on", "off"].contains(&key.to_ascii_lowercase().as_str());
    if is_word && !is_special { key.to_owned() } else { Value::from(key).to_string() }
}

fn append_nested(text: &mut String, value: &Value, depth: usize) {
    let is_block = match value {
        Value::Object(object) => !object.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        append_yaml(text, value, depth);
    } else {
        text.push_str(&format!(" {value}\n"));
    }
}

pub const API_VERSION: &str = "netctl/v1";
const NODE: &str = "NODE";

#[cfg(test)]
mod tests {
    use super::*;

    fn table(layout: &Layout) -> Result<String, String> {
        let rows = vec![vec!["a, b".to_owned(), String::new(), "c\"d".to_owned()]];
        let table = Table { columns: &["ONE", "TWO"], wide: &["THREE"], rows };
        Reply { kind: "Things", items: Vec::new(), names: Vec::new(), table }.text(layout)
    }

    #[test]
    fn tables() {
        #[track_caller]
        fn check(format: Format, columns: &[&str], headers: bool, expected: &str) {
            let columns = columns.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(table(&Layout { format, columns, headers, nodes: None }).as_deref(), Ok(expected));
        }
        check(Format::Table, &[], true, "ONE   TWO\na, b  -\n");
        check(Format::Wide, &[], true, "ONE   TWO  THREE\na, b  -    c\"d\n");
        check(Format::Table, &["three", "ONE"], false, "c\"d  a, b\n");
        check(Format::Csv, &[], true, "ONE,TWO,THREE\n\"a, b\",,\"c\"\"d\"\n");
        check(Format::Csv, &["TWO"], false, "\n");
        let layout = Layout { nodes: Some(vec!["n2".to_owned()]), ..Layout::new(Format::Table) };
        assert_eq!(table(&layout).as_deref(), Ok("NODE  ONE   TWO\nn2    a, b  -\n"));
        let layout = Layout { columns: vec!["four".to_owned()], ..Layout::new(Format::Table) };
        assert!(table(&layout).unwrap_err().contains("ONE,TWO,THREE"));
    }

    #[test]
    fn documents() {
        let document = document("Things", vec![json!({"a": [1, {"b": []}], "c": "x: y"})]);
        assert_eq!(
            document.to_string(),
            r#"{"apiVersion":"netctl/v1","items":[{"a":[1,{"b":[]}],"c":"x: y"}],"kind":"Things"}"#
        );
        let expected = "apiVersion: \"netctl/v1\"\nitems:\n  -\n    \"a\":\n      - 1\n      -\n        \"b\": []\n    \"c\": \"x: y\"\nkind: \"Things\"\n";
        assert_eq!(yaml(&document), expected);
    }
}

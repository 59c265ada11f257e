//! The reply on standard output, in the format that was asked for.

use std::io::{Write, stdout};

use serde_json::{Value, json};

/// `-o` as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
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

impl Reply {
    pub fn write(&self, format: Format) {
        write(&self.text(format));
    }

    pub fn text(&self, format: Format) -> String {
        let document = || document(self.kind, self.items.clone());
        match format {
            Format::Json => format!("{}\n", document()),
            Format::Yaml => yaml(&document()),
            Format::Name => self.names.iter().map(|name| format!("{name}\n")).collect(),
            Format::Table => self.table.text(self.table.columns.len()),
            Format::Wide => self.table.text(usize::MAX),
        }
    }
}

/// Lines with columns as wide as their widest cell; for a table whose columns depend on what it shows.
pub fn columns(header: &[String], rows: &[Vec<String>]) -> String {
    aligned(&[header].into_iter().chain(rows.iter().map(Vec::as_slice)).collect::<Vec<_>>(), header.len())
}

fn aligned(lines: &[&[String]], shown: usize) -> String {
    let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let width = |column: usize| {
        let widths = lines.iter().filter_map(|line| Some(cell(line.get(column)?).chars().count()));
        widths.max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..shown).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(text, &width)| format!("{:width$}", cell(text)));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

impl Table {
    /// The first `shown` columns, each as wide as its widest cell. An empty cell is `-`.
    fn text(&self, shown: usize) -> String {
        let header: Vec<String> = self.columns.iter().chain(self.wide).map(|&name| name.to_owned()).collect();
        let lines: Vec<&[String]> =
            [header.as_slice()].into_iter().chain(self.rows.iter().map(Vec::as_slice)).collect();
        aligned(&lines, header.len().min(shown))
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

const API_VERSION: &str = "netctl/v1";

#[cfg(test)]
mod tests {
    use super::*;

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

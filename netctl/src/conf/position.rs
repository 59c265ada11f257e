//! Where in a JSON text a value stands, so that an error about its meaning can point at it.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde_json::value::RawValue;

/// Line and column of a text, both from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One step from a JSON value into another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// The way from the document's root to a value; shown as `plugins[0].type`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(pub Vec<Step>);

impl Path {
    pub fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if nth == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The position of the value at `path`, or of the innermost value on the way that exists. `None` when `text` is no JSON.
pub fn locate(text: &str, path: &Path) -> Option<Position> {
    let mut value: &RawValue = serde_json::from_str(text).ok()?;
    for step in &path.0 {
        let Some(next) = descend(value, step) else { break };
        value = next;
    }
    let offset = value.get().as_ptr().addr() - text.as_ptr().addr();
    Some(position(text, offset))
}

fn descend<'a>(value: &'a RawValue, step: &Step) -> Option<&'a RawValue> {
    match step {
        Step::Key(key) => {
            let object: BTreeMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(value.get()).ok()?;
            object.get(key.as_str()).copied()
        }
        Step::Index(index) => {
            let array: Vec<&'a RawValue> = serde_json::from_str(value.get()).ok()?;
            array.get(*index).copied()
        }
    }
}

fn position(text: &str, offset: usize) -> Position {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found() {
        let text = "  {\n  \"name\": \"n\",\n  \"plugins\": [ {\"type\": \"é\", \"x\": 1},\n   {\"\\u0061\": [7]} ]\n}\n";
        #[track_caller]
        fn check(text: &str, path: &Path, shown: &str, expected: (usize, usize)) {
            let (line, column) = expected;
            assert_eq!(path.to_string(), shown);
            assert_eq!(locate(text, path), Some(Position { line, column }), "{shown}");
        }
        let root = Path::default();
        let plugins = root.key("plugins");
        check(text, &root, "", (1, 3));
        check(text, &root.key("name"), "name", (2, 11));
        check(text, &plugins, "plugins", (3, 14));
        check(text, &plugins.index(0).key("x"), "plugins[0].x", (3, 35));
        check(text, &plugins.index(1).key("a").index(0), "plugins[1].a[0]", (4, 16));
        // What isn't there is shown where it should be.
        check(text, &plugins.index(1).key("type"), "plugins[1].type", (4, 4));
        assert_eq!(locate("{", &root), None);
    }
}

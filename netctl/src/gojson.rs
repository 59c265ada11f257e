//! JSON to the byte as Go's `encoding/json` writes it, for files and output that are compared with libcni's.

use serde::Serialize;
use serde_json::{Serializer, ser::PrettyFormatter};

/// On one line. Fails where `value` can't be JSON.
pub fn compact(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(escaped)
}

/// With four spaces of indentation and no newline at the end, as libcni prints results and errors.
pub fn indented(value: &impl Serialize) -> serde_json::Result<String> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    ")))?;
    Ok(escaped(String::from_utf8_lossy(&text).into_owned()))
}

/// Go escapes what HTML and JavaScript would trip over. None of it occurs in JSON outside of strings.
fn escaped(json: String) -> String {
    if !json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return json;
    }
    json.chars().fold(String::with_capacity(json.len()), |mut escaped, c| {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)))
            }
            c => escaped.push(c),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn as_go_writes_it() {
        let value = json!({"b": "<a&b>\u{2028}é", "a": [], "c": [1]});
        assert_eq!(compact(&value).unwrap(), r#"{"a":[],"b":"\u003ca\u0026b\u003e\u2028é","c":[1]}"#);
        assert_eq!(
            indented(&json!({"b": "<", "a": {"c": [1, true]}})).unwrap(),
            "{\n    \"a\": {\n        \"c\": [\n            1,\n            true\n        ]\n    },\n    \"b\": \"\\u003c\"\n}"
        );
    }
}

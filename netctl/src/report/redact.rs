//! Takes secrets out of documents: by the names of keys, and in texts by their shape. What it does not know for a secret stays: a
//! person should look before it goes to others.

use regex_lite::Regex;
use serde_json::{Map, Value};

/// Without the values of keys that are named like secrets, and without what looks like one in texts.
pub fn redact(value: Value) -> Value {
    let shapes: Vec<_> =
        SHAPES.iter().filter_map(|(shape, by)| Some((Regex::new(shape).ok()?, *by))).collect();
    removed(value, &shapes)
}

fn removed(value: Value, shapes: &[(Regex, &str)]) -> Value {
    match value {
        Value::Object(object) => {
            let kept = object.into_iter().map(|(key, value)| match is_secret(&key) {
                true => (key, "removed".into()),
                false => (key, removed(value, shapes)),
            });
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(values) => values.into_iter().map(|value| removed(value, shapes)).collect(),
        Value::String(text) => {
            let without =
                |text: String, (shape, by): &(Regex, &str)| shape.replace_all(&text, *by).into_owned();
            shapes.iter().fold(text, without).into()
        }
        other => other,
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}

const WORDS: [&str; 9] =
    ["password", "passwd", "secret", "token", "privatekey", "private_key", "credential", "apikey", "psk"];

/// Secrets in texts, and what stands for them: private keys, the user in an URL, what a header authorizes with, `password=...`.
const SHAPES: [(&str, &str); 4] = [
    (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", "removed"),
    (r"://[^/\s@]+@", "://removed@"),
    (r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}", "$1 removed"),
    (
        r#"(?i)([\w.-]*(?:password|passwd|secret|token|private_?key|credential|api_?key|psk)[\w.-]*)"?\s*[=:]\s*("[^"]*"|[^\s;,&"}]+)"#,
        "$1=removed",
    ),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_removed_at_any_depth() {
        let found = redact(json!({"a": [{"apiToken": "x", "name": "n"}], "Password": {"b": 1}, "key": "k"}));
        assert_eq!(
            found,
            json!({"a": [{"apiToken": "removed", "name": "n"}], "Password": "removed", "key": "k"})
        );
    }

    #[test]
    fn secrets_in_texts_are_removed() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(redact(json!([text])), json!([expected]));
        }
        check("https://joe:hush@etcd.example:2379/v3", "https://removed@etcd.example:2379/v3");
        check("K8S_POD=a;DB_PASSWORD=hush;IP=10.0.0.1", "K8S_POD=a;DB_PASSWORD=removed;IP=10.0.0.1");
        check(r#"{"authToken": "hush", "mtu": 1500}"#, r#"{"authToken=removed, "mtu": 1500}"#);
        check("Authorization: Bearer aaaa.bbbb-cc", "Authorization: Bearer removed");
        check("x -----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY----- y", "x removed y");
        check("-----BEGIN PRIVATE KEY-----\ncut off", "removed");
        check("tcp dport 80 dnat to 10.9.0.2:80", "tcp dport 80 dnat to 10.9.0.2:80");
    }
}

//! etcd's JSON gateway (v3, etcd 3.4 and newer): requests as JSON, and what comes back as keys and values. Knows no network
//! and opens no connection. Numbers of 64 bits are strings there, keys and values base64 (the JSON mapping of protobuf).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// A key with what etcd knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    pub value: Vec<u8>,
    pub created: u64,
    pub modified: u64,
}

/// One change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Put(KeyValue),
    Delete { key: String },
}

/// One message of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchMessage {
    /// Changes up to and with this revision; none is a sign of life.
    Events { revision: u64, events: Vec<Event> },
    /// The watch is over: compacted away, or refused.
    Cancelled { why: String },
}

/// All keys from `from` up to, not including, `to`; at most `limit`, as they were at `revision` (0: now).
pub fn range(from: &str, to: &str, limit: u64, revision: u64) -> Value {
    json!({"key": encode(from.as_bytes()), "range_end": encode(to.as_bytes()),
           "limit": limit.to_string(), "revision": revision.to_string()})
}

/// One key.
pub fn get(key: &str) -> Value {
    json!({"key": encode(key.as_bytes())})
}

/// A condition of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'a> {
    Absent(&'a str),
    /// The key was changed last at this revision.
    Unchanged(&'a str, u64),
}

/// A key to be put, on a lease or for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put<'a> {
    pub key: &'a str,
    pub value: &'a [u8],
    pub lease: Option<i64>,
}

/// Puts all, if all conditions hold; else tells what `otherwise` holds.
pub fn put_if(conditions: &[Condition<'_>], puts: &[Put<'_>], otherwise: &str) -> Value {
    let compare: Vec<_> = conditions
        .iter()
        .map(|condition| match condition {
            Condition::Absent(key) => {
                json!({"key": encode(key.as_bytes()), "target": "CREATE", "result": "EQUAL", "create_revision": "0"})
            }
            Condition::Unchanged(key, revision) => {
                json!({"key": encode(key.as_bytes()), "target": "MOD", "result": "EQUAL",
                       "mod_revision": revision.to_string()})
            }
        })
        .collect();
    let success: Vec<_> = puts
        .iter()
        .map(|Put { key, value, lease }| {
            json!({"request_put": {"key": encode(key.as_bytes()), "value": encode(value),
                                   "lease": lease.unwrap_or_default().to_string()}})
        })
        .collect();
    json!({"compare": compare, "success": success, "failure": [{"request_range": get(otherwise)}]})
}

/// Watches the keys from `from` up to, not including, `to`.
pub fn watch(from: &str, to: &str, revision: u64) -> Value {
    json!({"create_request": {"key": encode(from.as_bytes()), "range_end": encode(to.as_bytes()),
                              "start_revision": revision.to_string(), "progress_notify": true}})
}

/// The revision at which the answer is true.
pub fn revision(answer: &Value) -> u64 {
    number(&answer["header"]["revision"])
}

/// The keys of a range's answer, and whether there are more.
pub fn key_values(answer: &Value) -> (Vec<KeyValue>, bool) {
    let found = answer["kvs"].as_array().map(Vec::as_slice).unwrap_or_default();
    (found.iter().filter_map(key_value).collect(), answer["more"].as_bool().unwrap_or_default())
}

/// What became of [`put_if`]: `Ok` with the revision, or the key that was there instead.
pub fn put_outcome(answer: &Value) -> Result<u64, Option<KeyValue>> {
    if answer["succeeded"].as_bool() == Some(true) {
        return Ok(revision(answer));
    }
    Err(key_values(&answer["responses"][0]["response_range"]).0.into_iter().next())
}

/// A lease's number and remaining time in seconds, from a grant or a sign of life; 0 s: there is no such lease.
pub fn lease(answer: &Value) -> Option<(i64, u64)> {
    let answer = answer.get("result").unwrap_or(answer);
    let id = answer["ID"].as_str()?.parse().ok()?;
    Some((id, number(&answer["TTL"])))
}

/// One line of a watch's stream.
pub fn watch_message(line: &[u8]) -> Result<WatchMessage, String> {
    let message: Value = serde_json::from_slice(line).map_err(|err| err.to_string())?;
    if let Some(error) = message.get("error") {
        let why = error["message"].as_str().or_else(|| error.as_str()).unwrap_or("refused").to_owned();
        return Ok(WatchMessage::Cancelled { why });
    }
    let result = &message["result"];
    if result["canceled"].as_bool() == Some(true) {
        let why = match number(&result["compact_revision"]) {
            0 => result["cancel_reason"].as_str().unwrap_or("cancelled").to_owned(),
            revision => format!("compacted up to revision {revision}"),
        };
        return Ok(WatchMessage::Cancelled { why });
    }
    if !result.is_object() {
        return Err("a message without a result".into());
    }
    let events = result["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let events = events.iter().filter_map(event).collect();
    Ok(WatchMessage::Events { revision: revision(result), events })
}

fn event(event: &Value) -> Option<Event> {
    let kv = key_value(&event["kv"])?;
    // PUT is the enum's 0, and left out.
    Some(if event["type"].as_str() == Some("DELETE") {
        Event::Delete { key: kv.key }
    } else {
        Event::Put(kv)
    })
}

/// A key that is no text is none of ours.
fn key_value(kv: &Value) -> Option<KeyValue> {
    Some(KeyValue {
        key: String::from_utf8(decode(&kv["key"])?).ok()?,
        value: if kv["value"].is_null() { Vec::new() } else { decode(&kv["value"])? },
        created: number(&kv["create_revision"]),
        modified: number(&kv["mod_revision"]),
    })
}

fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_u64()).unwrap_or_default()
}

fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn decode(value: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(value.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Result<WatchMessage, &str>) {
        assert_eq!(
            watch_message(line.as_bytes()).as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|e| *e)
        );
    }

    #[test]
    fn watch_messages() {
        check(
            r#"{"result":{"header":{"revision":"7"},"created":true}}"#,
            Ok(WatchMessage::Events { revision: 7, events: vec![] }),
        );
        let kv = KeyValue { key: "/a".into(), value: b"x".to_vec(), created: 5, modified: 8 };
        check(
            r#"{"result":{"header":{"revision":"8"},"events":[
                {"kv":{"key":"L2E=","create_revision":"5","mod_revision":"8","value":"eA=="}},
                {"type":"DELETE","kv":{"key":"L2E=","mod_revision":"8"}},
                {"kv":{"key":"not base64","value":"eA=="}}]}}"#,
            Ok(WatchMessage::Events {
                revision: 8,
                events: vec![Event::Put(kv), Event::Delete { key: "/a".into() }],
            }),
        );
        check(
            r#"{"result":{"header":{},"canceled":true,"compact_revision":"10082"}}"#,
            Ok(WatchMessage::Cancelled { why: "compacted up to revision 10082".into() }),
        );
        check(
            r#"{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}"#,
            Ok(WatchMessage::Cancelled { why: "etcdserver: no leader".into() }),
        );
        check("{}", Err("a message without a result"));
        assert!(watch_message(b"gibberish").is_err());
    }

    #[test]
    fn transactions() {
        let won = json!({"header": {"revision": "9"}, "succeeded": true});
        assert_eq!(put_outcome(&won), Ok(9));
        let lost = json!({"responses": [{"response_range": {"kvs": [
            {"key": "L2E=", "create_revision": "5", "mod_revision": "5", "value": "eA=="}]}}]});
        let kv = KeyValue { key: "/a".into(), value: b"x".to_vec(), created: 5, modified: 5 };
        assert_eq!(put_outcome(&lost), Err(Some(kv)));
        assert_eq!(put_outcome(&json!({})), Err(None));
        assert_eq!(lease(&json!({"result": {"ID": "-7", "TTL": "30"}})), Some((-7, 30)));
        assert_eq!(lease(&json!({"result": {"ID": "7"}})), Some((7, 0)));
    }
}

//! What a plugin is given: its environment, and its configuration with what the runtime puts in. Pure.

use cni::request::Command;
use serde_json::{Map, Value, json};

use super::Attach;
use crate::conf::{NetworkList, PluginConf};

/// All variables but CNI_PATH. Every one is set, so that none of ours shows through.
pub(super) fn environment(command: Command, attach: Option<&Attach>) -> Vec<(&'static str, String)> {
    let pairs = attach.and_then(|attach| attach.args.as_deref()).unwrap_or_default();
    let args: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let said = |text: fn(&Attach) -> String| attach.map(text).unwrap_or_default();
    vec![
        ("CNI_COMMAND", command.as_str().to_owned()),
        ("CNI_CONTAINERID", said(|attach| attach.attachment.container.to_string())),
        ("CNI_NETNS", said(|attach| attach.netns.as_ref().map(ToString::to_string).unwrap_or_default())),
        ("CNI_ARGS", args.join(";")),
        ("CNI_IFNAME", said(|attach| attach.attachment.ifname.to_string())),
    ]
}

/// The configuration for ADD, DEL and CHECK: name and version of the list, the previous result, and of the capability
/// arguments those that the plugin declares.
pub(super) fn of_attachment(
    list: &NetworkList,
    plugin: &PluginConf,
    attach: &Attach,
    previous: Option<&Value>,
) -> Vec<u8> {
    let mut config = of_list(list, plugin);
    if let Some(previous) = previous {
        config.insert("prevResult".to_owned(), previous.clone());
    }
    let offered = attach.capability_args.iter().flatten();
    let wanted: Map<_, _> = offered
        .filter(|(capability, _)| plugin.capabilities.get(*capability) == Some(&true))
        .map(|(capability, value)| (capability.clone(), value.clone()))
        .collect();
    if !wanted.is_empty() {
        config.insert("runtimeConfig".to_owned(), Value::Object(wanted));
    }
    bytes(config)
}

/// The configuration for STATUS: name and version of the list.
pub(super) fn of_status(list: &NetworkList, plugin: &PluginConf) -> Vec<u8> {
    bytes(of_list(list, plugin))
}

/// The configuration for GC, with the attachments that stay under both names that the key has had
/// (containernetworking/cni#1101).
pub(super) fn of_gc(list: &NetworkList, plugin: &PluginConf, valid: &[super::gc::Valid]) -> Vec<u8> {
    let mut config = of_list(list, plugin);
    let valid = json!(valid);
    config.insert("cni.dev/valid-attachments".to_owned(), valid.clone());
    config.insert("cni.dev/attachments".to_owned(), valid);
    bytes(config)
}

fn of_list(list: &NetworkList, plugin: &PluginConf) -> Map<String, Value> {
    let mut config = plugin.config.clone();
    config.insert("name".to_owned(), list.name.as_str().into());
    config.insert("cniVersion".to_owned(), list.version.as_str().into());
    config
}

fn bytes(config: Map<String, Value>) -> Vec<u8> {
    let mut config = Value::Object(config);
    write_whole_numbers(&mut config);
    config.to_string().into_bytes()
}

/// `1500.0` and `1.5e3` as `1500`: libcni writes them so, and a Go plugin takes nothing else for an integer.
fn write_whole_numbers(value: &mut Value) {
    match value {
        Value::Object(object) => object.values_mut().for_each(write_whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(write_whole_numbers),
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0);
            // Fails beyond 64 bits, where it was no integer for anybody.
            if let Some(whole) = whole.and_then(|number| format!("{number:.0}").parse::<i64>().ok()) {
                *number = whole.into();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_integers() {
        let Value::Object(config) = json!({"a": [1500.0, {"b": 1.5e3}], "c": 0.5, "d": 12_345_678_901_234_567_u64, "e": -2.0, "f": 1e300})
        else {
            panic!("not an object")
        };
        let text = String::from_utf8(bytes(config)).unwrap();
        assert_eq!(text, r#"{"a":[1500,{"b":1500}],"c":0.5,"d":12345678901234567,"e":-2,"f":1e+300}"#);
    }
}

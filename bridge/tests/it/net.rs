//! Configurations that the tests share.

use serde_json::{Value, json};
use testenv::{lab::Lab, plugin::PluginCall};

/// A dual-stack network with a default gateway on bridge `cni0`, with `more` over it.
pub(crate) fn dual_stack(more: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00:1::/64"}]],
        },
    });
    merge(&mut config, more);
    config
}

/// A network without addresses.
pub(crate) fn layer2(more: Value) -> Value {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "cni0"});
    merge(&mut config, more);
    config
}

/// The keys of `more` replace those of `config`.
fn merge(config: &mut Value, more: Value) {
    let (Value::Object(config), Value::Object(more)) = (config, more) else { panic!("not objects") };
    config.extend(more);
}

/// The same configuration with the result of its ADD, as the runtime sends it with CHECK and DEL.
pub(crate) fn with_result(mut config: Value, result: &Value) -> Value {
    config["prevResult"] = result.clone();
    config
}

/// A call of the plugin in a lab where the bridge, forwarding and the allocator's notes may stay.
pub(crate) fn bridge(lab: &Lab, config: &Value) -> PluginCall {
    lab.allow_bridge("cni0");
    lab.allow("dir /var/lib/cni/networks");
    lab.allow("/var/lib/cni/networks/net");
    // Empty directories and one lock file of the whole suite.
    for path in ["dir /run/tenon", "dir /run/tenon/attach", "dir /run/tenon/ipam", "file /run/tenon/lock"] {
        lab.allow(path);
    }
    lab.plugin("bridge").config(config)
}

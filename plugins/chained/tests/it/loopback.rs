//! `lo` goes up and down, and results pass through.

use serde_json::json;
use testenv::lab;

#[test]
fn lo_is_up_after_add_and_down_after_del() {
    lab::run("loopback", |lab| {
        let ns = lab.netns("c1");
        ns.set_down("lo");
        ns.rebase();
        let config = json!({"cniVersion": "1.1.0", "name": "cni-loopback", "type": "loopback"});
        let call = lab.plugin("loopback").config(&config).ifname("lo").netns(&ns);
        call.check().err(999);
        let result = call.add().ok();
        assert_eq!(result["interfaces"][0]["name"], "lo");
        assert_eq!(result["ips"][0]["address"], "127.0.0.1/8");
        assert!(ns.pings("127.0.0.1".parse().unwrap()));
        call.check().ok();
        call.del().ok();
        call.check().err(999);
        call.netns_path("/run/netns/gone").del().ok();
    });
}

#[test]
fn in_a_chain_the_result_passes_through() {
    lab::run("loopback_chained", |lab| {
        let ns = lab.netns("c1");
        let previous = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}]});
        let config = json!({"cniVersion": "1.0.0", "name": "n", "type": "loopback", "prevResult": previous});
        assert_eq!(lab.plugin("loopback").config(&config).netns(&ns).add().ok(), previous);
        lab.plugin("loopback").config(&config).netns(&ns).del().ok();
        ns.set_up("lo");
    });
}

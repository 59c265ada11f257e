//! What becomes of the host: forwarding, router advertisements, a read-only /proc/sys.

use std::time::Duration;

use serde_json::json;
use testenv::wait;

use crate::net::{attach, call, dual_stack, message, run};

/// The reference switches forwarding on and the host loses its default route (moby#43466 is of the same class).
#[test]
fn a_default_route_learned_from_advertisements_stays() {
    run("advertised", |lab| {
        let router = lab.netns("router");
        lab.host().add_veth("up0", &router, "down0");
        for (ns, link) in [(lab.host(), "up0"), (&router, "down0")] {
            ns.set_sysctl(&format!("net.ipv6.conf.{link}.accept_dad"), "0");
            ns.set_up(link);
        }
        router.wait_running("down0");
        let learned =
            || lab.exec(&["ip", "-6", "route", "show", "default", "proto", "ra"]).ok().contains("dev up0");
        wait::wait_for("a route by an advertisement", Duration::from_secs(5), || {
            router.advertise("down0");
            wait::poll(Duration::from_millis(200), || learned().then_some(())).is_some()
        });
        lab.rebase();
        lab.allow("sysctl net.ipv6.conf.up0.accept_ra");
        let one = attach(lab, &dual_stack(json!({})), "one");
        assert_eq!(lab.host().sysctl("net.ipv6.conf.all.forwarding"), "1");
        assert!(learned());
        assert_eq!(lab.host().sysctl("net/ipv6/conf/up0/accept_ra"), "2");
        // Containers do not advertise to the host.
        assert_eq!(lab.host().sysctl("net/ipv6/conf/cni0/accept_ra"), "0");
        one.detach();
    });
}

const READ_ONLY: [&str; 5] = [
    "unshare",
    "-m",
    "sh",
    "-c",
    "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$0\"",
];

#[test]
fn a_read_only_proc_sys_is_fine_when_it_is_right() {
    run("read_only", |lab| {
        // The note of mount(8).
        lab.allow("dir /run/mount");
        let ns = lab.netns("one");
        lab.host().set_sysctl("net.ipv4.ip_forward", "1");
        lab.host().set_sysctl("net.ipv6.conf.all.forwarding", "1");
        let call = call(lab, &dual_stack(json!({})), &ns);
        call.clone().through(&READ_ONLY).add().ok();
        assert!(ns.pings("10.1.0.1".parse().unwrap()) && ns.pings("fd00:1::1".parse().unwrap()));
        call.through(&READ_ONLY).del().ok();
    });
}

#[test]
fn a_read_only_proc_sys_that_is_wrong_is_named() {
    run("read_only_wrong", |lab| {
        lab.allow("dir /run/mount");
        let ns = lab.netns("one");
        let call = call(lab, &dual_stack(json!({})), &ns).through(&READ_ONLY);
        let error = call.add().err(999);
        assert!(
            message(&error).contains("set sysctl net/ipv4/ip_forward to 1: Read-only file system"),
            "{error}"
        );
        assert_eq!(ns.links().len(), 1);
    });
}

/// Writing ip_forward again would reset every link's own setting.
#[test]
fn forwarding_that_is_on_is_not_written() {
    run("forwarding", |lab| {
        lab.host().add_bridge("other0");
        lab.host().set_sysctl("net.ipv4.ip_forward", "1");
        lab.host().set_sysctl("net.ipv4.conf.other0.forwarding", "0");
        let one = attach(lab, &dual_stack(json!({})), "one");
        assert_eq!(lab.host().sysctl("net.ipv4.conf.other0.forwarding"), "0");
        one.detach();
    });
}

//! The lab tried on itself: what it isolates, what its leak check sees, what it lets pass.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::panic::catch_unwind;
use std::path::Path;
use std::time::Duration;

use testenv::lab;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The message that a lab run panics with.
fn complaint(name: &'static str, body: fn(&lab::Lab)) -> String {
    let panic = catch_unwind(|| lab::run(name, body)).expect_err("the lab must complain");
    panic.downcast::<String>().map(|text| *text).expect("a message")
}

/// These tests mean nothing where no lab can be made.
fn impossible(name: &str) -> bool {
    let reason = lab::impossible();
    if let Some(reason) = &reason {
        testenv::skip::record(name, reason);
    }
    reason.is_some()
}

#[test]
fn the_host_is_out_of_sight() {
    lab::run("the_host_is_out_of_sight", |lab| {
        assert_eq!(lab.host().links().into_iter().collect::<Vec<_>>(), ["lo"]);
        assert_eq!(fs::read_dir("/sys/class/net").unwrap().count(), 1);
        assert_eq!(fs::read_dir("/var/lib/cni").unwrap().count(), 0);
        assert_eq!(fs::read_dir("/etc/cni").unwrap().count(), 0);
        assert!(Path::new("/etc/passwd").exists(), "the rest of /etc stays");
        let links = lab.exec(&["cat", "/proc/net/dev"]).ok();
        assert_eq!(links.lines().count(), 3, "a child is inside too: {links}");
    });
}

#[test]
fn two_containers_talk_over_a_bridge() {
    lab::run("two_containers_talk_over_a_bridge", |lab| {
        lab.host().add_bridge("br0");
        lab.host().set_up("br0");
        let ends = ["c1", "c2"].map(|name| lab.netns(name));
        for (number, ns) in (1..).zip(&ends) {
            let port = format!("port{number}");
            lab.host().add_veth(&port, ns, "eth0");
            lab.host().set_master(&port, "br0");
            lab.host().set_up(&port);
            ns.add_address("eth0", &format!("10.9.0.{number}/24"));
            ns.add_address("eth0", &format!("fd00:9::{number}/64"));
            ns.set_up("eth0");
        }
        let [c1, c2] = &ends;
        assert_eq!(c1.addresses("eth0"), ["10.9.0.1/24", "fd00:9::1/64"]);
        for address in ["10.9.0.2", "fd00:9::2"].map(ip) {
            c1.ping(address, Duration::from_secs(2)).unwrap();
            let tcp = c2.tcp_echo(SocketAddr::new(address, 0));
            let from = c1.tcp_talk(tcp.address(), "hello").unwrap();
            assert_eq!(tcp.seen(), [from]);
            let udp = c2.udp_echo(SocketAddr::new(address, 0));
            let from = c1.udp_talk(udp.address(), "hello").unwrap();
            assert_eq!(udp.seen()[0].port(), from.port());
        }
        assert!(c1.ping(ip("10.9.0.77"), Duration::from_millis(50)).is_err());
    });
}

#[test]
fn what_the_scene_changes_is_no_leak() {
    lab::run("what_the_scene_changes_is_no_leak", |lab| {
        let outside = lab.outside("up0");
        assert!(lab.host().pings(ip("198.51.100.254")));
        assert!(lab.host().pings(ip("2001:db8:1::254")));
        lab.host().set_sysctl("net.ipv4.ip_forward", "1");
        lab.host().remove_link("up0");
        outside.rebase();
        lab.remove_netns(outside);
    });
}

#[test]
fn whatever_is_left_is_named() {
    if impossible("whatever_is_left_is_named") {
        return;
    }
    let said = complaint("leaks", |lab| {
        let c1 = lab.netns("c1");
        c1.run(|| fs::write("/proc/sys/net/ipv4/conf/lo/rp_filter", "2")).unwrap();
        fs::write("/run/left", "").unwrap();
        fs::create_dir("/var/lib/cni/networks").unwrap();
        lab.host().run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    });
    for line in [
        " in c1:\n  ~ sysctl net.ipv4.conf.lo.rp_filter: ",
        "~ sysctl net.ipv4.ip_forward: 0 -> 1\n",
        "  + dir /var/lib/cni/networks\n",
        "  + file /run/left\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in:\n{said}");
    }
}

#[test]
fn links_addresses_routes_rules_and_rulesets_left_are_named() {
    if impossible("links_addresses_routes_rules_and_rulesets_left_are_named") {
        return;
    }
    let said = complaint("kernel leaks", |lab| {
        lab.needs_program("ip", "iproute2");
        lab.needs_program("nft", "nftables");
        for line in [
            "ip link add v0 type veth peer name v1",
            "ip link set v0 up alias here",
            "ip address add 10.3.0.1/24 dev v0",
            "ip -6 address add fd00:3::1/64 dev v0 nodad",
            "ip link set v1 up",
            "ip route add 10.4.0.0/16 via 10.3.0.2",
            "ip rule add from 10.5.0.0/16 table 100",
            "ip neighbour add 10.3.0.9 lladdr 02:00:00:00:00:09 dev v0 nud permanent",
            "nft add table inet left",
            "nft add set inet left s { type ipv4_addr ; }",
            "nft add element inet left s { 192.0.2.1 }",
        ] {
            lab.exec(&line.split(' ').collect::<Vec<_>>()).ok();
        }
    });
    for line in [
        "+ link v0 veth mtu 1500 alias here mac ",
        "+ address 10.3.0.1/24 dev v0\n",
        "+ address fd00:3::1/64 dev v0\n",
        "+ route 10.4.0.0/16 dev v0 via 10.3.0.2 table 254 proto boot Unicast\n",
        "Table(100)",
        "+ neighbour 10.3.0.9 02:00:00:00:00:09 dev v0\n",
        "+ nft table inet left\n",
        "+ nft table inet left : set s : elements = { 192.0.2.1 }\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in:\n{said}");
    }
}

#[test]
fn what_the_test_allows_may_stay() {
    lab::run("what_the_test_allows_may_stay", |lab| {
        fs::create_dir("/var/lib/cni/networks").unwrap();
        lab.host().run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
        assert_ne!(lab.leaks(), "");
        lab.allow("dir /var/lib/cni/networks");
        lab.allow_forwarding();
        lab.assert_nothing_left();
    });
}

#[test]
fn a_panic_in_the_body_is_the_tests_own() {
    if impossible("a_panic_in_the_body_is_the_tests_own") {
        return;
    }
    let said = complaint("panics", |_| panic!("{}", "from the body"));
    assert_eq!(said, "from the body");
}

/// The test above once more, as a process without capabilities: it passes for the harness, and is written down.
#[test]
fn a_test_that_cannot_run_is_written_down() {
    let skips = std::env::temp_dir().join(format!("skips-{}", std::process::id()));
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"])
        .arg(program)
        .args(["--exact", "the_host_is_out_of_sight"])
        .env(testenv::skip::FILE_VARIABLE, &skips)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let recorded = testenv::skip::read(&skips).unwrap();
    fs::remove_file(&skips).unwrap();
    let reason = recorded.get("testenv::lab::the_host_is_out_of_sight").expect("recorded");
    assert!(reason.contains("CAP_SYS_ADMIN"), "{reason}");
}

//! `cargo testenv lab` as a person uses it: the real command, one call after another, in a lab that keeps its state to itself.

use std::process::Command;

use testenv::{lab, plugin};

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// All is built: the command gets a cargo that has nothing to do.
fn lab(line: &str) -> Said {
    let output = Command::new(plugin::built().join("testenv"))
        .arg("lab")
        .args(line.split(' ').filter(|word| !word.is_empty()))
        .env("CARGO", "true")
        .output()
        .expect("run testenv");
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

#[track_caller]
fn works(line: &str) -> String {
    let said = lab(line);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "lab {line}: {}", said.stdout);
    said.stdout
}

#[track_caller]
fn fails(line: &str, why: &str) {
    let said = lab(line);
    assert!(said.code == Some(1) && said.stderr.contains(why), "lab {line}: {:?} {}", said.code, said.stderr);
}

#[test]
fn a_cluster_in_a_few_commands() {
    lab::run("cluster", |scene| {
        scene.needs_program("nft", "nftables");
        // mount(8) keeps notes there.
        scene.allow("/run/mount");
        scene.needs_program("ping", "iputils-ping");
        fails("show", "there is no lab: `cargo testenv lab up` makes one");
        let picture = works("up --hosts 3 --mtu 1400");
        assert!(picture.contains("one link, MTU 1400, tunnels over IPv4"), "{picture}");
        assert!(picture.contains("├─ h3   10.0.0.3     owns 10.244.3.0/24 fd00:244:0:3::/64, 2 peers, MTU 1350, directory following\n"), "{picture}");
        fails("up", "there is a lab already: `cargo testenv lab down` ends it");
        assert_eq!(works("run h1 web"), "web on h1: 10.244.1.2 fd00:244:0:1::2\n");
        works("run 2 db");
        fails("run h1 web", "h1 has a container web");
        fails("run h9 web", "there are hosts h1 to h3, and no h9");
        fails("exec h1/db -- true", "h1 has no container db; it has [\"web\"]");
        let ping = "exec h1/web -- ping -n -q -c1 -W1 -M do -s 1322 10.244.2.2";
        assert!(works(ping).contains(" 0% packet loss"));
        assert_eq!(lab("exec h1 -- grep -q nothing /dev/null").code, Some(1), "the command's own status");
        assert_eq!(works("exec h2 -- hostname"), "h2\n");
        assert!(works("exec h2 -- netctl overlay status").contains("10.0.0.2 on eth0  following  2      ok"));

        works("cut h1 h2");
        assert!(works("show").contains("╳ h1 and h2 are cut from each other"));
        assert_eq!(lab(ping).code, Some(1));
        works("cut h3");
        assert!(works("show").contains("├╳ h3   10.0.0.3     (cut off)"));
        works("heal");
        let picture = works("show");
        assert!(!picture.contains('╳') && picture.contains("└─ db: 10.244.2.2/24"), "{picture}");
        works(ping);
        for (line, why) in [
            ("up --hosts", "--hosts needs a value"),
            ("up --etcd 9", "--etcd 9: there are 3 hosts to run it"),
            ("frob", "usage: cargo testenv lab up"),
            ("exec h1 true", "usage: cargo testenv lab up"),
        ] {
            fails(line, why);
        }
        assert_eq!(works("down"), "");
        fails("down", "there is no lab");
    });
}

#[test]
fn a_cluster_on_etcd_over_ipv6() {
    lab::run("cluster-etcd", |scene| {
        scene.needs_program("etcd", "etcd-server");
        scene.allow("/run/mount");
        scene.needs_program("etcdctl", "etcd-client");
        let picture = works("up --hosts 3 --etcd 3 --v6");
        assert!(picture.contains("MTU 1500, tunnels over IPv6"), "{picture}");
        assert_eq!(picture.matches("2 peers, MTU 1430, directory following\n").count(), 3, "{picture}");
        works("down");
    });
}

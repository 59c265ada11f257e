//! `netctl capture` over two hosts, read by tshark.

use std::process::{Command, Stdio};

use testenv::{
    lab::{self, Lab},
    ns::Ran,
    wait,
};

use crate::hosts::{Hosts, PATIENCE, arguments};

fn tshark(lab: &Lab, file: &str, arguments: &[&str]) -> String {
    let mut argv = vec!["tshark", "-r", file, "-d", "udp.port==8472,vxlan"];
    argv.extend(arguments);
    lab.exec(&argv).ok()
}

#[test]
fn one_file_of_two_hosts_with_names_comments_and_inner_packets() {
    lab::run("capture", |lab| {
        lab.needs_program("tshark", "tshark");
        let hosts = Hosts::build(lab);
        let file = lab.dir().join("out.pcapng").display().to_string();
        // Twenty for each ping; one host may be slower to report than the other.
        let argv = arguments(&format!("capture netns:c1 n2/netns:c2 --underlay -f icmp -c 120 -w {file}"));
        let mut run = hosts.host(1).run(|| {
            Command::new(&argv[0]).args(&argv[1..]).stderr(Stdio::piped()).spawn().expect("netctl was built")
        });
        wait::wait_for("the capture to begin", PATIENCE, || {
            std::fs::metadata(&file).is_ok_and(|file| file.len() > 0)
        });
        wait::wait_for("all packets", PATIENCE, || {
            let _ = hosts.container(1).ping([10, 244, 2, 10].into(), std::time::Duration::from_millis(200));
            run.try_wait().expect("a child of ours").is_some()
        });
        let output = run.wait_with_output().expect("a child of ours");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.contains("udp.port==8472,vxlan"), "{stderr}");

        let fields = [
            "-T",
            "fields",
            "-e",
            "frame.interface_name",
            "-e",
            "vxlan.vni",
            "-e",
            "ip.src",
            "-e",
            "frame.comment",
        ];
        let lines = tshark(lab, &file, &fields);
        let wrapped = "n1/host/u0\t42\t192.0.2.1,10.244.1.10\t10.244.1.10 > 10.244.2.10 ICMP echo request in VXLAN 42 192.0.2.1 > 192.0.2.2:8472";
        assert!(lines.lines().any(|line| line == wrapped), "{lines}");
        for name in [
            "n1/c1/eth0",
            "n1/host/v0",
            "n1/host/cni0",
            "n1/host/ovl",
            "n2/host/u0",
            "n2/host/ovl",
            "n2/c2/eth0",
        ] {
            assert!(lines.lines().any(|line| line.split('\t').next() == Some(name)), "{name}: {lines}");
        }
        let names = tshark(lab, &file, &["-N", "n", "-Y", "frame.interface_name == \"n1/c1/eth0\""]);
        assert!(names.contains("c1.n1") && names.contains("c2.n2"), "{names}");
    });
}

#[test]
fn a_trace_is_saved_with_what_happened_at_every_hop() {
    lab::run("capture-trace", |lab| {
        lab.needs_program("tshark", "tshark");
        let hosts = Hosts::build(lab);
        let file = lab.dir().join("trace.pcapng").display().to_string();
        hosts.trace(&format!("netns:c1 n2/netns:c2 --tcp 80 --count 1 -w {file}")).verdict("rejected", 1);
        let lines = tshark(
            lab,
            &file,
            &["-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment", "-e", "tcp.dstport"],
        );
        let first = lines.lines().next().unwrap();
        assert_eq!(first, "n1/c1/eth0\tsent\t80");
        assert!(lines.contains("n1/host/u0\tsent, wrapped in VXLAN 42 to 192.0.2.2\t80"), "{lines}");
        assert!(lines.contains("dropped, NO_SOCKET"), "{lines}");
    });
}

#[test]
fn text_filters_and_mistakes() {
    lab::run("capture-text", |lab| {
        let c1 = lab.netns("c1");
        let run = |line: &str| -> Ran {
            let mut argv = vec![crate::hosts::NETCTL, "--node", "n1", "capture"];
            argv.extend(line.split('|'));
            lab.exec(&argv)
        };
        assert_eq!(run("netns:c9").code, Some(2));
        let ran = run("netns:c1|port http");
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.contains("port \"http\" is not a number"), "{}", ran.stderr);
        assert_eq!(run("netns:c1|-w|/nowhere/file").code, Some(3));
        let ran = std::thread::scope(|scope| {
            let capture = scope.spawn(|| run("netns:c1|udp port 9|-c|2"));
            wait::wait_for("two packets", PATIENCE, || {
                c1.run(|| {
                    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                    socket.send_to(b"x", "127.0.0.1:9").unwrap();
                    socket.send_to(b"x", "127.0.0.1:10").unwrap();
                });
                capture.is_finished()
            });
            capture.join().unwrap()
        });
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
        assert!(ran.stdout.lines().all(|line| line.contains("n1/c1/lo") && line.contains("127.0.0.1:9 UDP")));
    });
}

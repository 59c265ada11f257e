//! containerd, driven through its CRI as by a kubelet, with pods on a network of our plugins, all of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::{Cri, Pod};
use serde_json::json;
use testenv::daemon::Daemon;
use testenv::lab::Lab;
use testenv::lab::contained::run_contained;
use testenv::plugin::built;
use testenv::wait::wait_for;

const IMAGE: &str = "localhost/busybox:test";
const PAUSE: &str = "localhost/pause:test";
const SOCKET: &str = "/run/ctrd/ctrd.sock";
const OURS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

/// A containerd in the lab with both images loaded.
fn containerd(lab: &Lab) -> Daemon {
    lab.needs_program("containerd", "containerd");
    lab.needs_program("runc", "runc");
    let plugins = lab.plugin_dir(&OURS, &[]);
    let settings = lab.dir().join("containerd.toml");
    lab.write(&settings, &configuration(&lab.dir(), &plugins));
    let mut daemon = lab.daemon(lab.host(), &["containerd", "--config", &settings.display().to_string()]);
    wait_for("containerd to answer", Duration::from_secs(20), || {
        daemon.assert_running();
        ctr(lab, &["version"]).succeeded()
    });
    for (name, command) in [
        (IMAGE, &["sh"][..]),
        (PAUSE, &["sh", "-c", "trap exit TERM INT; while :; do sleep 3600 & wait; done"]),
    ] {
        let image = lab.image(name, command).display().to_string();
        ctr(lab, &["--namespace", "k8s.io", "images", "import", &image]).ok();
    }
    daemon
}

fn ctr(lab: &Lab, arguments: &[&str]) -> testenv::ns::Ran {
    lab.exec(&[&["ctr", "--address", SOCKET], arguments].concat())
}

/// Scores below the caller's cannot be set without CAP_SYS_RESOURCE: restrict_oom_score_adj.
fn configuration(dir: &Path, plugins: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/ctrd"
state = "/run/ctrd/state"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "/etc/cni/net.d"
"#,
        plugins = plugins.display()
    )
}

fn network(lab: &Lab) {
    let list = json!({
        "cniVersion": "1.0.0", "name": "pods", "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": "10.22.0.0/16" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    lab.write("/etc/cni/net.d/10-pods.conflist", &list.to_string());
}

#[test]
fn two_pods_of_containerd_talk() {
    run_contained("two_pods_of_containerd_talk", |lab| {
        let outside = lab.outside("up0");
        network(lab);
        let daemon = containerd(lab);
        let mut cri = Cri::connect(&PathBuf::from(SOCKET)).unwrap();
        let echo = outside.tcp_echo("198.51.100.254:0".parse().unwrap());

        let pods: Vec<Pod> = [("a", 18080), ("b", 18081)]
            .map(|(name, port)| {
                cri.run_pod(name, &[(port, 8080)])
                    .unwrap_or_else(|cause| panic!("{cause:#}\n{}", daemon.said()))
            })
            .into();
        assert!(pods.iter().all(|pod| pod.ip.starts_with("10.22.")), "{pods:?}");
        let containers: Vec<String> =
            pods.iter().map(|pod| cri.run_container(pod, IMAGE, &["sleep", "1000"]).unwrap()).collect();
        let to_outside = format!("echo hi | nc 198.51.100.254 {}", echo.address().port());
        let to_other = format!("wget -q -O - http://{}:8080/index.html", pods[1].ip);
        for (container, command, expected) in [
            (&containers[0], format!("ping -q -c 1 -W 2 {} > /dev/null", pods[1].ip), ""),
            (&containers[0], "ping -q -c 1 -W 2 198.51.100.254 > /dev/null".to_string(), ""),
            (&containers[1], "echo hello > /tmp/index.html; httpd -p 8080 -h /tmp".to_string(), ""),
            (&containers[0], to_other, "hello\n"),
            (&containers[0], to_outside, "hi\n"),
        ] {
            let said = cri.exec(container, &["sh", "-c", &command]).unwrap();
            assert_eq!((said.code, said.stdout.as_str()), (0, expected), "{command}: {}", said.stderr);
        }
        assert_eq!(echo.seen()[0].ip().to_string(), "198.51.100.1", "masqueraded");
        names_are_heard(lab);
        // By the ports of the host: from elsewhere, from the host itself, and from the other pod.
        for (from, host) in [(&outside, "198.51.100.1"), (lab.host(), "127.0.0.1")] {
            let page = |port: u16| from.http_page(SocketAddr::new(host.parse().unwrap(), port));
            assert!(page(18081).is_some_and(|page| page.contains("hello")), "hostPort of b by {host}");
            assert!(page(18080).is_none(), "hostPort of a, where nobody serves, by {host}");
        }
        let by_host = "wget -q -O - http://198.51.100.1:18081/index.html";
        assert_eq!(cri.exec(&containers[0], &["sh", "-c", by_host]).unwrap().stdout, "hello\n");

        for pod in &pods {
            cri.stop_pod(pod).unwrap();
            cri.remove_pod(pod).unwrap();
        }
        for from in [&outside, lab.host()] {
            assert!(
                from.http_page("198.51.100.1:18081".parse().unwrap()).is_none(),
                "the port of a pod that is gone"
            );
        }
        drop(daemon);
        allow_what_stays(lab);
        lab.assert_nothing_left();
    });
}

/// netctl hears names over containerd's socket alone, of pods and of what nerdctl would have made: their files are not where it looks.
fn names_are_heard(lab: &Lab) {
    let plugins = format!("CNI_PATH={}", lab.plugin_dir(&OURS, &[]).display());
    let socket = format!("CONTAINERD_ADDRESS={SOCKET}");
    let program = built().join("netctl").display().to_string();
    let netctl = |words: &[&str]| lab.exec(&[&["env", &plugins, &socket, &program], words].concat()).ok();
    let shown = |runtime: &str| {
        let said = netctl(&["ps", "pods", "--runtime", runtime, "-o", "json"]);
        let reply: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let items = reply["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|it| it["container"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    for runtime in ["auto", "cri", "containerd"] {
        assert_eq!(shown(runtime), ["default/a", "default/b"], "{runtime}");
    }
    let ids = shown("none");
    assert!(ids.len() == 2 && ids.iter().all(|id| id.len() == 12), "{ids:?}");

    let made = lab.netns("made");
    let create = ["containers", "create", "--label", "nerdctl/name=web", IMAGE, "m1"];
    ctr(lab, &[&["--namespace", "k8s.io"], &create[..]].concat()).ok();
    let attach = |verb: &str| netctl(&["exec", verb, "pods", "made", "--container-id", "k8s.io-m1"]);
    attach("add");
    assert_eq!(shown("auto"), ["default/a", "default/b", "web"]);
    attach("del");
    ctr(lab, &["--namespace", "k8s.io", "containers", "rm", "m1"]).ok();
    lab.remove_netns(made);
}

/// What containerd itself leaves; of our plugins only what stays by design.
fn allow_what_stays(lab: &Lab) {
    lab.allow_bridge("cni0");
    lab.allow_tables();
    lab.allow_state("pods");
    for own in [
        "/run/ctrd",
        "/run/containerd",
        "/run/podlogs",
        "/run/runc",
        "/etc/cni/net.d",
        "/var/lib/cni/results",
    ] {
        lab.allow(own);
    }
}

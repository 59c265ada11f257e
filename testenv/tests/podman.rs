//! podman with its CNI backend on a network of our plugins. All of its list are ours.

use std::path::Path;
use std::time::Duration;

use testenv::lab::Lab;
use testenv::lab::contained::run_contained;
use testenv::plugin::built;
use testenv::wait::wait_for;

const IMAGE: &str = "localhost/busybox:test";
const OURS: [&str; 7] = ["bridge", "macvlan", "dhcp", "host-local", "firewall", "portmap", "tuning"];
const PEERS: [&str; 0] = [];

/// podman set up for the lab: its state inside, our plugins, no systemd.
struct Podman<'a> {
    lab: &'a Lab,
    environment: [String; 2],
}

impl<'a> Podman<'a> {
    fn new(lab: &'a Lab) -> Self {
        lab.needs_program("podman", "podman");
        lab.needs_program("runc", "runc");
        lab.needs_program("iptables", "iptables");
        let plugins = lab.plugin_dir(&OURS, &PEERS);
        lab.empty(Path::new("/var/lib/containers"));
        let (containers, storage) = (lab.dir().join("containers.conf"), lab.dir().join("storage.conf"));
        // Limits above those of the caller cannot be set without CAP_SYS_RESOURCE.
        let settings = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nlog_driver = \"k8s-file\"\n\
             default_capabilities = [\"CHOWN\", \"DAC_OVERRIDE\", \"KILL\", \"NET_RAW\", \"SETGID\", \"SETUID\"]\n\
             [network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [{:?}]\nnetwork_config_dir = \"/etc/cni/net.d\"\n\
             [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
            plugins.display().to_string()
        );
        lab.write(&containers, &settings);
        lab.write("/var/lib/containers/storage/defaultNetworkBackend", "cni");
        lab.write(&storage,
            "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/var/lib/containers/storage\"\n",);
        let environment = [
            format!("CONTAINERS_CONF={}", containers.display()),
            format!("CONTAINERS_STORAGE_CONF={}", storage.display()),
        ];
        Self { lab, environment }
    }

    /// netctl hears names over podman's socket alone: what podman keeps on disk is out of its sight.
    fn names_its_containers(&self) {
        let [containers, storage] = &self.environment;
        let socket = "unix:///run/podman/podman.sock";
        self.lab.exec(&["mkdir", "-p", "/run/podman"]).ok();
        let service = ["env", containers, storage, "podman", "system", "service", "--time", "0", socket];
        let mut service = self.lab.daemon(self.lab.host(), &service);
        let shown = |runtime: &str| {
            let hide = "mount -t tmpfs none /var/lib/containers && mount -t tmpfs none /run/containers";
            let netctl = built().join("netctl").display().to_string();
            let line = format!("{hide} && {netctl} ps lab --runtime {runtime} -o json");
            let said = self.lab.exec(&["unshare", "--mount", "sh", "-c", &line]).ok();
            let reply: serde_json::Value = serde_json::from_str(&said).expect("JSON");
            let items = reply["items"].as_array().cloned().unwrap_or_default();
            items.iter().map(|it| it["container"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        wait_for("the names", Duration::from_secs(20), || {
            service.assert_running();
            shown("podman") == ["a", "b"]
        });
        assert_eq!(shown("auto"), ["a", "b"]);
        let without = shown("none");
        assert!(without.len() == 2 && without.iter().all(|id| id.len() == 12), "{without:?}");
        drop(service);
        for left in ["/run/podman", "/run/mount"] {
            self.lab.allow(left);
        }
    }

    #[track_caller]
    fn run(&self, command: &str) -> String {
        self.exec(&command.split(' ').collect::<Vec<_>>())
    }

    #[track_caller]
    fn exec(&self, arguments: &[&str]) -> String {
        let [containers, storage] = &self.environment;
        self.lab.exec(&[&["env", containers, storage, "podman"], arguments].concat()).ok().trim().to_string()
    }
}

#[test]
fn two_containers_of_podman_talk() {
    run_contained("two_containers_of_podman_talk", |lab| {
        let outside = lab.outside("up0");
        let podman = Podman::new(lab);
        let image = lab.image(IMAGE, &["sh"]);
        podman.exec(&["load", "--quiet", "--input", &image.display().to_string()]);
        podman.run("network create --subnet 10.77.5.0/24 lab");
        let echo = outside.tcp_echo("198.51.100.254:0".parse().unwrap());

        for (name, port) in [("a", "18080"), ("b", "18081")] {
            podman.run(&format!(
                "run --detach --name {name} --network lab --publish {port}:8080 {IMAGE} sleep 1000"
            ));
        }
        let address =
            podman.exec(&["inspect", "b", "--format", "{{.NetworkSettings.Networks.lab.IPAddress}}"]);
        assert!(address.starts_with("10.77.5."), "{address}");
        podman.run(&format!("exec a ping -c 1 -W 2 {address}"));
        podman.run("exec a ping -c 1 -W 2 198.51.100.254");
        podman.exec(&["exec", "b", "sh", "-c", "echo hello > /tmp/index.html; httpd -p 8080 -h /tmp"]);
        assert_eq!(podman.run(&format!("exec a wget -q -O - http://{address}:8080/index.html")), "hello");
        let page = |server: &str| outside.http_page(server.parse().unwrap());
        assert!(page("198.51.100.1:18081").is_some_and(|page| page.contains("hello")), "published");
        assert!(page("198.51.100.1:18080").is_none(), "published, but nobody serves");
        let said = podman.exec(&[
            "exec",
            "a",
            "sh",
            "-c",
            &format!("echo hi | nc 198.51.100.254 {}", echo.address().port()),
        ]);
        assert_eq!(said, "hi");
        assert_eq!(echo.seen()[0].ip().to_string(), "198.51.100.1", "masqueraded");
        podman.names_its_containers();

        podman.run("rm --force --time 0 a b");
        podman.run("network rm lab");
        allow_what_stays(lab);
        lab.assert_nothing_left();
    });
}

/// What `podman network create` writes has IPv4; a list by hand has both families.
#[test]
fn containers_of_podman_lease_from_the_lan() {
    run_contained("containers_of_podman_lease_from_the_lan", |lab| {
        lab.needs_program("dnsmasq", "dnsmasq-base");
        let outside = lab.outside("up0");
        // It is for the containers that routers announce themselves.
        for (ns, link) in [(lab.host(), "up0"), (&outside, "in0")] {
            ns.set_sysctl(&format!("net.ipv6.conf.{link}.accept_ra"), "0");
        }
        lab.rebase();
        let leases = lab.dir().join("leases").display().to_string();
        let _server = lab.daemon(&outside, &server(&leases).each_ref().map(String::as_str));
        let podman = Podman::new(lab);
        let agent = lab.plugin_dir(&OURS, &PEERS).join("dhcp").display().to_string();
        let mut agent = lab.daemon(lab.host(), &[&agent, "daemon"]);
        let image = lab.image(IMAGE, &["sh"]);
        podman.exec(&["load", "--quiet", "--input", &image.display().to_string()]);
        podman.run("network create --driver macvlan --opt parent=up0 lan");
        lab.write("/etc/cni/net.d/20-six.conflist", DUAL);
        let known = || std::fs::read_to_string(&leases).unwrap_or_default();

        for (name, network) in [("a", "lan"), ("b", "lan"), ("c", "six"), ("d", "six")] {
            podman.run(&format!("run --detach --name {name} --network {network} {IMAGE} sleep 1000"));
        }
        let address = |name: &str, network: &str, field: &str| {
            let format = format!("{{{{.NetworkSettings.Networks.{network}.{field}}}}}");
            podman.exec(&["inspect", name, "--format", &format])
        };
        let (b, d) = (address("b", "lan", "IPAddress"), address("d", "six", "GlobalIPv6Address"));
        assert!(b.starts_with("198.51.100.") && d.starts_with("2001:db8:1::1:"), "{b} {d}");
        for (from, to) in [("a", "198.51.100.254"), ("a", &b), ("c", &b), ("c", "2001:db8:1::254"), ("c", &d)]
        {
            podman.run(&format!("exec {from} ping -c 3 -W 2 {to}"));
        }
        assert!(known().contains(&format!(" {b} ")) && known().contains(&format!(" {d} ")), "{}", known());
        agent.assert_running();

        podman.run("rm --force --time 0 a b c d");
        // The server's own identifier stays.
        wait_for("no lease", Duration::from_secs(5), || {
            known().lines().all(|line| line.starts_with("duid "))
        });
        podman.run("network rm lan six");
        allow_what_stays(lab);
        lab.allow("/run/cni");
        lab.assert_nothing_left();
    });
}

const DUAL: &str = r#"{"cniVersion": "1.0.0", "name": "six", "plugins": [
    {"type": "macvlan", "master": "up0", "ipam": {"type": "dhcp", "families": ["ipv4", "ipv6"]}}
]}"#;

fn server(leases: &str) -> [String; 14] {
    let leases = format!("--dhcp-leasefile={leases}");
    [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--pid-file",
        "--user=root",
        "--no-ping",
        "--interface=in0",
        "--bind-dynamic",
        "--dhcp-authoritative",
        "--enable-ra",
        "--dhcp-range=198.51.100.50,198.51.100.99,2m",
        "--dhcp-range=2001:db8:1::1:50,2001:db8:1::1:99,64,2m",
        &leases,
    ]
    .map(str::to_owned)
}

/// What podman itself leaves; of our plugins only what stays by design.
fn allow_what_stays(lab: &Lab) {
    lab.allow_bridge("cni-podman1");
    lab.allow_tables();
    lab.allow_state("lab");
    lab.allow("file /run/tenon/lock");
    for own in [
        "/run/containers",
        "/run/libpod",
        "/run/runc",
        "/run/crun",
        "/run/lock",
        "/run/xtables.lock",
        "/etc/cni/net.d",
    ] {
        lab.allow(own);
    }
    for cached in ["/var/lib/cni/results", "/var/lib/cni/cache"] {
        lab.allow(cached);
    }
}

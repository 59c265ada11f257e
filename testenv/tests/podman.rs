//! podman with its CNI backend on a network of our plugins. All of its list are ours.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use testenv::lab::Lab;
use testenv::lab::contained::run_contained;
use testenv::ns::Ns;

const IMAGE: &str = "localhost/busybox:test";
const OURS: [&str; 5] = ["bridge", "host-local", "firewall", "portmap", "tuning"];
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
        assert!(page(&outside, "198.51.100.1:18081").is_some_and(|page| page.contains("hello")), "published");
        assert!(page(&outside, "198.51.100.1:18080").is_none(), "published, but nobody serves");
        let said = podman.exec(&[
            "exec",
            "a",
            "sh",
            "-c",
            &format!("echo hi | nc 198.51.100.254 {}", echo.address().port()),
        ]);
        assert_eq!(said, "hi");
        assert_eq!(echo.seen()[0].ip().to_string(), "198.51.100.1", "masqueraded");

        podman.run("rm --force --time 0 a b");
        podman.run("network rm lab");
        allow_what_stays(lab);
        lab.assert_nothing_left();
    });
}

/// What an HTTP server answers to somebody in `from`.
fn page(from: &Ns, server: &str) -> Option<String> {
    let server = server.parse().expect("an address with a port");
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        Some(page)
    })
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

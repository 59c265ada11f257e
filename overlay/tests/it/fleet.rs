//! Hosts with agents, containers on them by the real plugin, and etcd where it is asked for.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use testenv::{
    cluster::{Cluster, Holder, Options},
    lab::Lab,
    wait,
};

/// What a network is, for all of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) v6_underlay: bool,
    pub(crate) direct: bool,
}

/// Hosts that are taken down with the test.
pub(crate) struct Fleet {
    pub(crate) cluster: Cluster,
    network: Network,
    logs: PathBuf,
    agents: RefCell<BTreeMap<u8, Child>>,
    etcds: RefCell<BTreeMap<u8, Child>>,
}

pub(crate) const SOON: Duration = Duration::from_secs(20);
const NAME: &str = "lab";

impl Fleet {
    pub(crate) fn up(lab: &Lab, hosts: u8, mtu: u32, network: Network) -> Self {
        lab.needs_program("nsenter", "util-linux");
        // mount(8) keeps notes there.
        lab.allow("/run/mount");
        let cluster = Cluster::up(Options { hosts, mtu }).unwrap();
        Self { cluster, network, logs: lab.dir(), agents: RefCell::default(), etcds: RefCell::default() }
    }

    /// The peers file of all hosts.
    pub(crate) fn peers_file(&self) -> Value {
        let hosts = u8::try_from(self.cluster.hosts().len()).unwrap();
        let peers: Vec<_> = (1..=hosts)
            .map(|n| {
                json!({"node": format!("h{n}"), "underlay": Cluster::address(n, self.network.v6_underlay),
                       "subnets": [format!("10.244.{n}.0/24"), format!("fd00:244:0:{n:x}::/64")]})
            })
            .collect();
        let mut file = self.definition();
        file["peers"] = peers.into();
        file
    }

    fn definition(&self) -> Value {
        json!({"name": NAME, "vni": 7, "direct": self.network.direct,
               "underlay": if self.network.v6_underlay { "v6" } else { "v4" },
               "pools": ["10.244.0.0/16", "fd00:244::/48"]})
    }

    /// Every host has the same peers file, and an agent.
    pub(crate) fn start_static(&self) {
        for (number, host) in (1..).zip(self.cluster.hosts()) {
            host.write("/etc/tenon/overlay/lab.json", &self.peers_file().to_string()).unwrap();
            self.start_agent(number);
        }
    }

    /// etcd on the first hosts, and agents on all that know of it.
    pub(crate) fn start_etcd(&self, members: u8, grace: u32) {
        for number in 1..=members {
            self.start_etcd_member(number, members, "new");
        }
        wait::wait_for("etcd to have a leader", SOON, || self.etcdctl(1, &["endpoint", "health"]).is_some());
        for (number, host) in (1..).zip(self.cluster.hosts()) {
            host.write("/etc/tenon/overlayd.toml", &self.etcd_config(members, grace)).unwrap();
            self.start_agent(number);
        }
    }

    fn etcd_config(&self, members: u8, grace: u32) -> String {
        let endpoints: Vec<_> = (1..=members).map(|n| format!("'http://10.0.0.{n}:2379'")).collect();
        let Network { v6_underlay, direct } = self.network;
        format!(
            "[[network]]\nname = 'lab'\nvni = 7\ndirect = {direct}\nunderlay = '{}'\ndevice = 'eth0'\n\
             pools = ['10.244.0.0/16', 'fd00:244::/48']\n\
             [network.etcd]\nendpoints = [{}]\ngrace = {grace}\nalive = 3\n",
            if v6_underlay { "v6" } else { "v4" },
            endpoints.join(", ")
        )
    }

    pub(crate) fn start_etcd_member(&self, number: u8, members: u8, state: &str) {
        let (name, url) = (format!("e{number}"), |port: u16| format!("http://10.0.0.{number}:{port}"));
        let cluster: Vec<_> = (1..=members).map(|n| format!("e{n}=http://10.0.0.{n}:2380")).collect();
        let argv = [
            "etcd",
            "--name",
            &name,
            "--data-dir",
            "/run/etcd",
            "--listen-peer-urls",
            &url(2380),
            "--initial-advertise-peer-urls",
            &url(2380),
            "--listen-client-urls",
            &url(2379),
            "--advertise-client-urls",
            &url(2379),
            "--initial-cluster",
            &cluster.join(","),
            "--initial-cluster-state",
            state,
            "--heartbeat-interval",
            "50",
            "--election-timeout",
            "500",
            "--unsafe-no-fsync",
        ];
        // 3.4 does not know the last one.
        let argv = &argv[..argv.len() - 1];
        let log = self.logs.join(format!("etcd{number}.log"));
        let child = self.cluster.host(number).start_command(argv, &log).unwrap();
        self.etcds.borrow_mut().insert(number, child);
    }

    pub(crate) fn etcdctl(&self, host: u8, argv: &[&str]) -> Option<String> {
        let endpoint = format!("--endpoints=http://10.0.0.{host}:2379");
        let line: Vec<_> =
            ["env", "ETCDCTL_API=3", "etcdctl", &endpoint].iter().chain(argv).copied().collect();
        let said = self.cluster.host(host).exec(&line).unwrap();
        (said.code == Some(0)).then_some(said.stdout)
    }

    /// Without a word, as the power goes.
    pub(crate) fn kill_etcd(&self, number: u8) {
        kill(self.etcds.borrow_mut().remove(&number).unwrap());
    }

    pub(crate) fn start_agent(&self, number: u8) {
        let log = self.logs.join(format!("overlayd{number}.log"));
        let child = self.cluster.host(number).start_command(&[env!("CARGO_BIN_EXE_overlayd")], &log).unwrap();
        self.agents.borrow_mut().insert(number, child);
    }

    pub(crate) fn kill_agent(&self, number: u8) {
        kill(self.agents.borrow_mut().remove(&number).unwrap());
    }

    pub(crate) fn agent_pid(&self, number: u8) -> u32 {
        self.agents.borrow()[&number].id()
    }

    pub(crate) fn log(&self, number: u8) -> String {
        std::fs::read_to_string(self.logs.join(format!("overlayd{number}.log"))).unwrap_or_default()
    }

    /// What an agent answers on its socket, or nothing where it does not.
    pub(crate) fn ask(&self, number: u8, question: &Value) -> Option<Value> {
        let socket = self.cluster.host(number).file("/run/tenon/overlayd.sock");
        let mut stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        writeln!(stream, "{question}").ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str::<Value>(&line).ok()?.get("ok").cloned()
    }

    pub(crate) fn status(&self, number: u8) -> Option<Value> {
        self.ask(number, &json!({"ask": "status"}))?.get(0).cloned()
    }

    pub(crate) fn subnets(&self, number: u8) -> Option<Vec<String>> {
        let status = self.status(number)?;
        (status["standing"] == "owner").then(|| {
            status["subnets"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
        })
    }

    /// Until every host owns its subnets, has all others for peers and the kernel holds them.
    #[track_caller]
    pub(crate) fn wait_complete(&self) {
        let hosts = u8::try_from(self.cluster.hosts().len()).unwrap();
        let complete = |number: u8| {
            self.status(number).is_some_and(|status| {
                status["standing"] == "owner"
                    && status["in_sync"] == true
                    && status["peers"] == u64::from(hosts) - 1
            }) && self.ask(number, &json!({"ask": "peers", "network": NAME})).is_some_and(|peers| {
                peers.as_object().is_some_and(|all| all.values().all(|peer| peer["subnets"][1].is_string()))
            })
        };
        let done = wait::poll(SOON, || (1..=hosts).all(complete).then_some(()));
        let all: Vec<_> = (1..=hosts).map(|n| (self.status(n), self.log(n))).collect();
        assert!(done.is_some(), "the fleet is not complete: {all:#?}");
    }

    fn plugin(&self, number: u8, verb: &str, container: &str) -> (Option<i32>, Value) {
        let host = self.cluster.host(number);
        let line = host.command_line(&[env!("CARGO_BIN_EXE_overlay")]);
        let dir = testenv::plugin::built();
        let config = json!({"cniVersion": "1.1.0", "name": NAME, "type": "overlay", "ipMasq": true});
        let mut child = Command::new(&line[0])
            .args(&line[1..])
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", format!("/run/netns/{container}"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    /// Attaches a new container; its addresses, IPv4 first.
    #[track_caller]
    pub(crate) fn add(&self, number: u8, container: &str) -> Vec<IpAddr> {
        self.cluster.host(number).run(&["ip", "netns", "add", container]).unwrap();
        self.cluster.host(number).run(&["ip", "-n", container, "link", "set", "lo", "up"]).unwrap();
        let (code, result) = self.plugin(number, "ADD", container);
        assert_eq!(code, Some(0), "{result}");
        let ips = result["ips"].as_array().unwrap();
        ips.iter()
            .map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap())
            .collect()
    }

    /// Exit code and answer.
    pub(crate) fn call(&self, number: u8, verb: &str, container: &str) -> (Option<i32>, Value) {
        self.plugin(number, verb, container)
    }

    #[track_caller]
    pub(crate) fn del(&self, number: u8, container: &str) {
        let (code, result) = self.plugin(number, "DEL", container);
        assert_eq!(code, Some(0), "{result}");
        self.cluster.host(number).run(&["ip", "netns", "del", container]).unwrap();
    }

    /// Whether a packet of `size` bytes, headers included, goes from a container to `ip` unfragmented.
    pub(crate) fn pings(&self, number: u8, container: &str, ip: IpAddr, size: Option<u32>) -> bool {
        let headers = if ip.is_ipv4() { 28 } else { 48 };
        let payload = size.map_or_else(|| "56".to_owned(), |size| (size - headers).to_string());
        let ip = ip.to_string();
        let line = [
            "ip", "netns", "exec", container, "ping", "-n", "-q", "-c1", "-W1", "-M", "do", "-s", &payload,
            &ip,
        ];
        self.cluster.host(number).exec(&line).unwrap().code == Some(0)
    }

    #[track_caller]
    pub(crate) fn wait_ping(&self, number: u8, container: &str, ip: IpAddr) {
        let pings = wait::poll(SOON, || self.pings(number, container, ip, None).then_some(()));
        assert!(pings.is_some(), "{container} on h{number} does not reach {ip}: {:#?}", self.status(number));
    }

    pub(crate) fn host(&self, number: u8) -> &Holder {
        self.cluster.host(number)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.agents.get_mut().values_mut().chain(self.etcds.get_mut().values_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Err(err) = self.cluster.down() {
            eprintln!("take the fleet down: {err:#}");
        }
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

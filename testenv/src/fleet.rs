//! A cluster with the overlay on it: agents, containers by the real plugin, and etcd where it is asked for. Knows the
//! suite's programs by name only.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::ns::Ns;
use crate::{ping, wait};

/// What the network is, for all of a fleet.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Network {
    pub v6_underlay: bool,
    pub direct: bool,
}

/// A cluster and where its programs and logs are.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fleet {
    pub cluster: Cluster,
    pub network: Network,
    /// Where `overlay` and `overlayd` are.
    pub programs: PathBuf,
    pub logs: PathBuf,
}

impl Fleet {
    fn count(&self) -> u8 {
        u8::try_from(self.cluster.hosts().len()).unwrap_or(u8::MAX)
    }

    /// The peers file of all hosts.
    pub fn peers_file(&self) -> Value {
        let peers: Vec<_> = (1..=self.count())
            .map(|n| {
                json!({"node": format!("h{n}"), "underlay": Cluster::address(n, self.network.v6_underlay),
                       "subnets": [format!("10.244.{n}.0/24"), format!("fd00:244:0:{n:x}::/64")]})
            })
            .collect();
        json!({"name": NETWORK, "vni": 7, "direct": self.network.direct, "underlay": self.underlay(),
               "pools": ["10.244.0.0/16", "fd00:244::/48"], "peers": peers})
    }

    fn underlay(&self) -> &'static str {
        if self.network.v6_underlay { "v6" } else { "v4" }
    }

    /// Gives every host the same peers file, and an agent.
    pub fn start_static(&self) -> anyhow::Result<Vec<Child>> {
        let text = self.peers_file().to_string();
        let hosts = (1..).zip(self.cluster.hosts());
        hosts
            .map(|(number, host)| {
                host.write(PEERS_FILE, &text)?;
                self.start_agent(number)
            })
            .collect()
    }

    /// The agent's configuration on etcd with so many members.
    pub fn etcd_config(&self, members: u8, grace: u32) -> String {
        let endpoints: Vec<_> = (1..=members).map(|n| format!("'http://10.0.0.{n}:2379'")).collect();
        format!(
            "[[network]]\nname = '{NETWORK}'\nvni = 7\ndirect = {}\nunderlay = '{}'\ndevice = 'eth0'\n\
             pools = ['10.244.0.0/16', 'fd00:244::/48']\n\
             [network.etcd]\nendpoints = [{}]\ngrace = {grace}\nalive = 3\n",
            self.network.direct,
            self.underlay(),
            endpoints.join(", ")
        )
    }

    /// Starts member `number` of `members`; `state` is `new`, or `existing` when it comes back.
    pub fn start_etcd_member(&self, number: u8, members: u8, state: &str) -> anyhow::Result<Child> {
        let (name, url) = (format!("e{number}"), |port: u16| format!("http://10.0.0.{number}:{port}"));
        let cluster: Vec<_> = (1..=members).map(|n| format!("e{n}=http://10.0.0.{n}:2380")).collect();
        let (peers, clients, cluster) = (url(2380), url(2379), cluster.join(","));
        let argv = [
            ["etcd", "--name"].as_slice(),
            &[&name, "--data-dir", "/run/etcd", "--listen-peer-urls", &peers],
            &["--initial-advertise-peer-urls", &peers, "--listen-client-urls", &clients],
            &["--advertise-client-urls", &clients, "--initial-cluster", &cluster],
            &["--initial-cluster-state", state, "--heartbeat-interval", "50", "--election-timeout", "500"],
        ];
        let log = self.logs.join(format!("etcd{number}.log"));
        self.cluster.host(number).start_command(&argv.concat(), &log)
    }

    /// Starts etcd on the first hosts and waits for its leader.
    pub fn start_etcd(&self, members: u8) -> anyhow::Result<Vec<Child>> {
        let started = (1..=members).map(|number| self.start_etcd_member(number, members, "new")).collect();
        wait::poll(SOON, || self.etcdctl(1, &["endpoint", "health"]).ok())
            .context("etcd has no leader (packages etcd-server and etcd-client)")?;
        started
    }

    /// What `etcdctl` says on a host about the member there.
    pub fn etcdctl(&self, host: u8, argv: &[&str]) -> anyhow::Result<String> {
        let endpoint = format!("--endpoints=http://10.0.0.{host}:2379");
        let line: Vec<_> =
            ["env", "ETCDCTL_API=3", "etcdctl", &endpoint].iter().chain(argv).copied().collect();
        self.cluster.host(host).run(&line)
    }

    pub fn start_agent(&self, number: u8) -> anyhow::Result<Child> {
        let program = self.programs.join("overlayd");
        let program = program.to_str().context("a path that is text")?;
        self.cluster.host(number).start_command(&[program], &self.agent_log(number))
    }

    pub fn agent_log(&self, number: u8) -> PathBuf {
        self.logs.join(format!("overlayd{number}.log"))
    }

    /// What an agent answers on its socket.
    pub fn ask(&self, number: u8, question: &Value) -> anyhow::Result<Value> {
        let socket = self.cluster.host(number).file("/run/tenon/overlayd.sock");
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        writeln!(stream, "{question}")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let mut answer = serde_json::from_str::<Value>(&line)?;
        match answer.get_mut("ok") {
            Some(answer) => Ok(answer.take()),
            None => bail!("{answer}"),
        }
    }

    pub fn status(&self, number: u8) -> anyhow::Result<Value> {
        let mut all = self.ask(number, &json!({"ask": "status"}))?;
        all.get_mut(0).map(Value::take).context("the agent serves no network yet")
    }

    /// Whether every host owns its subnets, has all others with theirs for peers, and the kernel holds them.
    pub fn is_complete(&self) -> bool {
        let others = u64::from(self.count()) - 1;
        (1..=self.count()).all(|number| {
            let complete = self.status(number).is_ok_and(|status| {
                status["standing"] == "owner" && status["in_sync"] == true && status["peers"] == others
            });
            complete
                && self.ask(number, &json!({"ask": "peers", "network": NETWORK})).is_ok_and(|peers| {
                    peers
                        .as_object()
                        .is_some_and(|all| all.values().all(|peer| peer["subnets"][1].is_string()))
                })
        })
    }

    /// Calls the plugin on a host for a container that is a namespace of that name; exit status and answer.
    pub fn plugin(&self, number: u8, verb: &str, container: &str) -> anyhow::Result<(Option<i32>, Value)> {
        let program = self.programs.join("overlay");
        let line =
            self.cluster.host(number).command_line(&[program.to_str().context("a path that is text")?]);
        let config = json!({"cniVersion": "1.1.0", "name": NETWORK, "type": "overlay", "ipMasq": true});
        let mut child = Command::new(&line[0])
            .args(&line[1..])
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", format!("/run/netns/{container}"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.programs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("stdin is a pipe")?.write_all(config.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        Ok((output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default()))
    }

    /// Attaches a new container; its addresses, IPv4 first.
    pub fn add(&self, number: u8, container: &str) -> anyhow::Result<Vec<IpAddr>> {
        let host = self.cluster.host(number);
        host.add_netns(container)?;
        let (code, result) = self.plugin(number, "ADD", container)?;
        if code != Some(0) {
            bail!("ADD {container} on {}: {result}", host.name);
        }
        let ips = result["ips"].as_array().context("a result with addresses")?;
        let address = |ip: &Value| ip["address"].as_str()?.split('/').next()?.parse().ok();
        ips.iter().map(address).collect::<Option<_>>().context("a result with addresses")
    }

    pub fn del(&self, number: u8, container: &str) -> anyhow::Result<()> {
        let (code, result) = self.plugin(number, "DEL", container)?;
        if code != Some(0) {
            bail!("DEL {container} on {}: {result}", self.cluster.host(number).name);
        }
        self.cluster.host(number).remove_netns(container)
    }

    /// A container of a host.
    pub fn container(&self, number: u8, container: &str) -> anyhow::Result<Ns> {
        let path = self.cluster.host(number).file(&format!("/run/netns/{container}"));
        Ns::open(container, &path).with_context(|| format!("open container {container}"))
    }

    /// Says `text` over TCP and over UDP from one container to `ip` of another, and hears it back. The other must see
    /// nobody but the first, at its own address: nothing inside the network is masqueraded.
    pub fn talk(&self, from: (u8, &str), to: (u8, &str), ip: IpAddr, text: &str) -> anyhow::Result<()> {
        let (from, to) = (self.container(from.0, from.1)?, self.container(to.0, to.1)?);
        let any = SocketAddr::new(ip, 0);
        for (server, protocol) in [(to.tcp_echo(any), "TCP"), (to.udp_echo(any), "UDP")] {
            let talk = if protocol == "TCP" { Ns::tcp_talk } else { Ns::udp_talk };
            let bytes = text.len();
            let way = || format!("{bytes} bytes by {protocol} from {} to {ip}", from.name());
            let own = talk(&from, server.address(), text).with_context(way)?;
            let seen = server.seen();
            ensure!(seen == [own], "{}: {own} was seen as {seen:?}", way());
        }
        Ok(())
    }

    /// Runs a command in a container.
    pub fn in_container(&self, number: u8, container: &str, argv: &[&str]) -> anyhow::Result<String> {
        let net = format!("--net=/run/netns/{container}");
        let line: Vec<_> = ["nsenter", &net].iter().chain(argv).copied().collect();
        self.cluster.host(number).run(&line)
    }

    /// Whether an echo request of `size` bytes, headers included, goes from a container to `ip` unfragmented, and is answered.
    pub fn pings(&self, number: u8, container: &str, ip: IpAddr, size: Option<usize>) -> bool {
        let host = self.cluster.host(number);
        host.in_netns(container, || ping::ask(ip, size, PATIENCE)).is_ok()
    }

    /// A container's addresses, as `10.0.0.1/24`, but for those of the link alone.
    pub fn addresses(&self, number: u8, container: &str) -> anyhow::Result<Vec<String>> {
        let mut list = self.container(number, container)?.addresses("eth0");
        list.retain(|address| !address.starts_with("fe80:"));
        Ok(list)
    }

    /// The containers of a host, in order.
    pub fn containers(&self, number: u8) -> Vec<String> {
        let names =
            std::fs::read_dir(self.cluster.host(number).file("/run/netns")).into_iter().flatten().flatten();
        let mut names: Vec<_> = names.map(|name| name.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// A directory for logs.
pub fn logs(dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    Ok(dir.to_owned())
}

/// How long an echo on one machine is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
pub const SOON: Duration = Duration::from_secs(20);
pub const NETWORK: &str = "lab";
pub const PEERS_FILE: &str = "/etc/tenon/overlay/lab.json";

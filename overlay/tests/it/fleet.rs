//! A fleet that is taken down with its test, and whose failures fail it.

use std::{cell::RefCell, collections::BTreeMap, net::IpAddr, process::Child};

use serde_json::Value;
use testenv::{
    cluster::{Cluster, Holder, Options},
    fleet,
    lab::Lab,
    wait,
};

pub(crate) use testenv::fleet::{Network, SOON};

pub(crate) struct Fleet {
    fleet: fleet::Fleet,
    agents: RefCell<BTreeMap<u8, Child>>,
    etcds: RefCell<BTreeMap<u8, Child>>,
}

impl Fleet {
    pub(crate) fn up(lab: &Lab, hosts: u8, mtu: u32, network: Network) -> Self {
        lab.needs_program("nsenter", "util-linux");
        // mount(8) keeps notes there.
        lab.allow("/run/mount");
        let cluster = Cluster::up(Options { hosts, mtu }).unwrap();
        let programs = testenv::plugin::built();
        let fleet = fleet::Fleet { cluster, network, programs, logs: lab.dir() };
        Self { fleet, agents: RefCell::default(), etcds: RefCell::default() }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.fleet.cluster
    }

    pub(crate) fn peers_file(&self) -> Value {
        self.fleet.peers_file()
    }

    pub(crate) fn start_static(&self) {
        self.agents.borrow_mut().extend((1..).zip(self.fleet.start_static().unwrap()));
    }

    /// etcd on the first hosts, and agents on all that know of it.
    pub(crate) fn start_etcd(&self, members: u8, grace: u32) {
        self.etcds.borrow_mut().extend((1..).zip(self.fleet.start_etcd(members).unwrap()));
        for (number, host) in (1..).zip(self.cluster().hosts()) {
            host.write("/etc/tenon/overlayd.toml", &self.fleet.etcd_config(members, grace)).unwrap();
            self.start_agent(number);
        }
    }

    pub(crate) fn start_etcd_member(&self, number: u8, members: u8, state: &str) {
        let child = self.fleet.start_etcd_member(number, members, state).unwrap();
        self.etcds.borrow_mut().insert(number, child);
    }

    pub(crate) fn etcdctl(&self, host: u8, argv: &[&str]) -> Option<String> {
        self.fleet.etcdctl(host, argv).ok()
    }

    /// Without a word, as the power goes.
    pub(crate) fn kill_etcd(&self, number: u8) {
        kill(self.etcds.borrow_mut().remove(&number).unwrap());
    }

    pub(crate) fn start_agent(&self, number: u8) {
        self.agents.borrow_mut().insert(number, self.fleet.start_agent(number).unwrap());
    }

    pub(crate) fn kill_agent(&self, number: u8) {
        kill(self.agents.borrow_mut().remove(&number).unwrap());
    }

    pub(crate) fn agent_pid(&self, number: u8) -> u32 {
        self.agents.borrow()[&number].id()
    }

    pub(crate) fn log(&self, number: u8) -> String {
        std::fs::read_to_string(self.fleet.agent_log(number)).unwrap_or_default()
    }

    /// What an agent answers, or nothing where it does not.
    pub(crate) fn ask(&self, number: u8, question: &Value) -> Option<Value> {
        self.fleet.ask(number, question).ok()
    }

    pub(crate) fn status(&self, number: u8) -> Option<Value> {
        self.fleet.status(number).ok()
    }

    pub(crate) fn subnets(&self, number: u8) -> Option<Vec<String>> {
        let status = self.status(number)?;
        (status["standing"] == "owner").then(|| {
            status["subnets"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
        })
    }

    #[track_caller]
    pub(crate) fn wait_complete(&self) {
        let done = wait::poll(SOON, || self.fleet.is_complete().then_some(()));
        let all = || {
            (1..=u8::try_from(self.cluster().hosts().len()).unwrap()).map(|n| (self.status(n), self.log(n)))
        };
        assert!(done.is_some(), "the fleet is not complete: {:#?}", all().collect::<Vec<_>>());
    }

    #[track_caller]
    pub(crate) fn add(&self, number: u8, container: &str) -> Vec<IpAddr> {
        self.fleet.add(number, container).unwrap()
    }

    #[track_caller]
    pub(crate) fn call(&self, number: u8, verb: &str, container: &str) -> (Option<i32>, Value) {
        self.fleet.plugin(number, verb, container).unwrap()
    }

    #[track_caller]
    pub(crate) fn del(&self, number: u8, container: &str) {
        self.fleet.del(number, container).unwrap();
    }

    pub(crate) fn pings(&self, number: u8, container: &str, ip: IpAddr, size: Option<usize>) -> bool {
        self.fleet.pings(number, container, ip, size)
    }

    #[track_caller]
    pub(crate) fn wait_ping(&self, number: u8, container: &str, ip: IpAddr) {
        let pings = wait::poll(SOON, || self.pings(number, container, ip, None).then_some(()));
        assert!(pings.is_some(), "{container} on h{number} does not reach {ip}: {:#?}", self.status(number));
    }

    /// TCP and UDP, in one packet and in several.
    #[track_caller]
    pub(crate) fn talk(&self, from: (u8, &str), to: (u8, &str), ip: IpAddr) {
        for text in ["hello", &"fragments ".repeat(2000)] {
            self.fleet.talk(from, to, ip, text).unwrap_or_else(|err| panic!("{err:#}"));
        }
    }

    pub(crate) fn try_talk(&self, from: (u8, &str), to: (u8, &str), ip: IpAddr) -> Result<(), String> {
        self.fleet.talk(from, to, ip, "hello").map_err(|err| format!("{err:#}"))
    }

    #[track_caller]
    pub(crate) fn in_container(&self, number: u8, container: &str, argv: &[&str]) -> String {
        self.fleet.in_container(number, container, argv).unwrap()
    }

    pub(crate) fn container(&self, number: u8, container: &str) -> testenv::ns::Ns {
        self.fleet.container(number, container).unwrap()
    }

    pub(crate) fn host(&self, number: u8) -> &Holder {
        self.cluster().host(number)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.agents.get_mut().values_mut().chain(self.etcds.get_mut().values_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Err(err) = self.fleet.cluster.down() {
            eprintln!("take the fleet down: {err:#}");
        }
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

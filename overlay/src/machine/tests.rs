mod many;

use ::kernel::mac::MacAddr;

use super::*;
use crate::{desired::Way, onlink::Reach, plan::HOLD};

/// A kernel and two files that obey, and a clock.
struct World {
    machine: Machine,
    now: Instant,
    kernel: Actual,
    index: u32,
    /// Whether the device can be made.
    device_fails: Option<String>,
    write_fails: usize,
    devices: Vec<DeviceSpec>,
    state: Option<LocalState>,
    saved: Option<Saved>,
    guard: BTreeSet<IpAddr>,
    published: Option<Record>,
    probes: Vec<Vec<IpAddr>>,
    /// What every probe finds; none ends without it.
    probe_finds: Option<Probed>,
    lists: usize,
    dumps: usize,
    writes: Vec<usize>,
    log: Vec<String>,
}

fn definition(extra: &str) -> Definition {
    serde_json::from_str(&format!(r#"{{"name":"lab","vni":7,"pools":["10.244.0.0/16"]{extra}}}"#)).unwrap()
}

fn underlay(mtu: u32, address: &str) -> Underlay {
    let link = [("192.0.2.0/24".parse().unwrap(), Reach::Link)];
    Underlay {
        name: "eth0".into(),
        index: 2,
        mtu: Mtu::try_from(mtu).unwrap(),
        up: true,
        address: address.parse().unwrap(),
        around: Neighbourhood::new(link),
        addresses: [address.parse().unwrap()].into(),
    }
}

fn record(number: u8) -> Record {
    let json = format!(
        r#"{{"node":"h{number}","underlay":{{"v4":"192.0.2.{number}"}},"mac":{{"v4":"02:00:00:00:00:{number:02x}"}},
            "subnets":["10.244.{number}.0/24"]}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn candidate(number: u8) -> (String, Candidate) {
    (format!("h{number}"), Candidate { rank: number.into(), record: Ok(record(number)) })
}

fn owner() -> Standing {
    Standing::Owner { subnets: vec!["10.244.1.0/24".parse().unwrap()] }
}

impl World {
    fn empty(extra: &str) -> Self {
        let now = Instant::now();
        Self {
            machine: Machine::new(definition(extra), "h1".parse().unwrap(), now),
            now,
            kernel: Actual::default(),
            index: 10,
            device_fails: None,
            write_fails: 0,
            devices: Vec::new(),
            state: None,
            saved: None,
            guard: BTreeSet::new(),
            published: None,
            probes: Vec::new(),
            probe_finds: Some(Probed::Whole),
            lists: 0,
            dumps: 0,
            writes: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Host 1 in a directory with hosts 2 to `last`, all settled.
    fn with_peers(extra: &str, last: u8) -> Self {
        let mut world = Self::empty(extra);
        world.send(Event::Underlay(Some(underlay(1500, "192.0.2.1"))));
        world.send(Event::Standing(owner()));
        world.list(1..=last);
        world.settle();
        world
    }

    fn list(&mut self, hosts: impl IntoIterator<Item = u8>) {
        let candidates = hosts.into_iter().map(candidate).collect();
        self.send(Event::Directory(Update::Snapshot(candidates)));
    }

    fn send(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.machine.handle(event, self.now) {
                events.extend(self.act(action));
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Device(spec) => {
                if let Some(why) = &self.device_fails {
                    return Some(Event::Device(Err(why.clone())));
                }
                self.devices.push(spec);
                Some(Event::Device(Ok(self.index)))
            }
            Action::Dump => {
                self.dumps += 1;
                Some(Event::Dumped(Ok(self.kernel.clone())))
            }
            Action::Write(changes) => {
                self.writes.push(changes.len());
                let fails = std::mem::take(&mut self.write_fails).min(changes.len());
                let (good, bad) = changes.split_at(changes.len() - fails);
                good.iter().for_each(|change| self.kernel.apply(*change));
                Some(Event::Written(bad.iter().map(|change| (*change, "set x: refused".into())).collect()))
            }
            Action::Guard(guard) => {
                self.guard = guard;
                None
            }
            Action::SaveState(state) => {
                self.state = Some(state);
                None
            }
            Action::SaveSnapshot(saved) => {
                self.saved = Some(saved);
                None
            }
            Action::List => {
                self.lists += 1;
                None
            }
            Action::Publish(record) => {
                self.published = Some(record);
                None
            }
            Action::Probe(peers) => {
                self.probes.push(peers);
                self.probe_finds.map(Event::Probed)
            }
            Action::Log(_, text) => {
                self.log.push(text);
                None
            }
        }
    }

    /// Lets time pass to the next deadline, as long as that is near.
    fn settle(&mut self) {
        let end = self.now + Duration::from_secs(5);
        self.run_until(end);
    }

    fn run_until(&mut self, end: Instant) {
        while let Some(deadline) = self.machine.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.send(Event::Wake);
        }
        self.now = end;
    }

    fn routes(&self) -> Vec<String> {
        self.kernel.routes.keys().map(ToString::to_string).collect()
    }

    fn logged(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.contains(text))
    }
}

#[test]
fn peers_reach_the_kernel_in_one_write() {
    let world = World::with_peers("", 4);
    assert_eq!(world.routes(), ["10.244.2.0/24", "10.244.3.0/24", "10.244.4.0/24"]);
    assert_eq!((world.kernel.neighbours.len(), world.kernel.fdb.len()), (3, 3));
    assert_eq!(world.writes, [9]);
    assert_eq!(world.guard.len(), 3);
    let state = world.state.unwrap();
    assert_eq!((u32::from(state.mtu), state.device.as_str()), (1450, "ovl7"));
    assert_eq!(state.standing, owner());
    assert_eq!(world.published.unwrap().subnets, owner().subnets());
    assert_eq!(world.saved.unwrap().peers.len(), 3);
    assert_eq!(world.devices.len(), 1);
    assert_eq!(world.devices[0].addresses, ["10.244.1.0/32".parse().unwrap()]);
}

#[test]
fn a_burst_of_changes_is_one_write() {
    let mut world = World::with_peers("", 4);
    let writes = world.writes.len();
    for host in 5..40 {
        let (key, candidate) = candidate(host);
        world.send(Event::Directory(Update::Changes(vec![(key, Some(candidate))])));
    }
    world.settle();
    assert_eq!(world.writes[writes..], [35 * 3]);
}

#[test]
fn what_somebody_takes_is_put_back_and_what_somebody_adds_is_removed() {
    let mut world = World::with_peers("", 4);
    let before = world.kernel.clone();
    let prefix: IpNetwork = "10.244.2.0/24".parse().unwrap();
    let metric = desired::metric(prefix);
    world.kernel.forget_route(prefix, metric);
    world.send(Event::Kernel(Notice::Route { prefix, metric, route: None }));
    let (foreign, dst) = (MacAddr([2, 0, 0, 0, 0, 0x99]), "192.0.2.66".parse().unwrap());
    world.kernel.fdb.entry(foreign).or_default().insert(dst);
    world.send(Event::Kernel(Notice::Fdb { mac: foreign, dst, there: true }));
    let ip = "10.244.3.0".parse().unwrap();
    world.kernel.neighbours.remove(&ip);
    world.send(Event::Kernel(Notice::Neighbour { ip, entry: None }));
    assert_ne!(world.kernel, before);
    world.settle();
    assert_eq!(world.kernel, before);
    assert_eq!(world.writes.last(), Some(&3));
    assert_eq!(world.dumps, 1, "no dump was needed");
}

#[test]
fn lost_events_and_lost_devices_mean_reading_everything_back() {
    let mut world = World::with_peers("", 4);
    let before = world.kernel.clone();
    world.kernel.routes.clear();
    world.send(Event::Overrun);
    world.settle();
    assert_eq!(world.kernel, before);
    world.kernel = Actual::default();
    world.index = 11;
    world.send(Event::DeviceSpoiled);
    world.settle();
    assert_eq!(world.kernel, before);
    assert_eq!(world.devices.len(), 2);
    // Nobody said anything, and something is missing all the same.
    world.kernel.neighbours.clear();
    world.run_until(world.now + RESYNC + Duration::from_secs(1));
    assert_eq!(world.kernel, before);
}

#[test]
fn changed_peers_are_applied_even_when_only_a_snapshot_tells() {
    let mut world = World::with_peers("", 4);
    let mut moved = record(3);
    moved.underlay.v4 = Some("192.0.2.33".parse().unwrap());
    moved.mac.v4 = Some(MacText(MacAddr([2, 0, 0, 0, 0, 0x33])));
    let mut all: Candidates = (1..=4).map(candidate).collect();
    all.insert("h3".into(), Candidate { rank: 3, record: Ok(moved) });
    world.send(Event::Directory(Update::Snapshot(all)));
    world.settle();
    assert_eq!(world.kernel.fdb.len(), 3, "the old entry is gone");
    assert!(world.kernel.fdb[&MacAddr([2, 0, 0, 0, 0, 0x33])].contains(&"192.0.2.33".parse().unwrap()));
    assert!(world.guard.contains(&"192.0.2.33".parse().unwrap()));
}

#[test]
fn stale_objects_of_an_earlier_life_go() {
    let mut world = World::empty("");
    let way = Way::Tunnel { gateway: "10.244.9.0".parse().unwrap() };
    world.kernel.apply(Change::SetRoute { prefix: "10.244.9.0/24".parse().unwrap(), way });
    world.kernel.apply(Change::SetFdb { mac: MacAddr([2; 6]), dst: "192.0.2.9".parse().unwrap() });
    let stale = world.kernel.clone();
    world.send(Event::Underlay(Some(underlay(1500, "192.0.2.1"))));
    world.settle();
    assert_eq!(world.kernel, stale, "nothing is removed before anybody said who the peers are");
    world.list([1, 2]);
    world.settle();
    assert_eq!(world.routes(), ["10.244.2.0/24"]);
    assert_eq!(world.kernel.fdb.len(), 1);
}

#[test]
fn an_outage_of_the_directory_changes_nothing() {
    let mut world = World::with_peers("", 4);
    let before = world.kernel.clone();
    for _ in 0..3 {
        world.send(Event::Directory(Update::Lost("connection refused".into())));
        world.settle();
    }
    assert_eq!(world.kernel, before);
    assert_eq!(world.log.iter().filter(|line| line.contains("directory lost")).count(), 1);
    let status = world.machine.status(world.now);
    assert_eq!((status.directory.as_str(), status.directory_lost_seconds), ("lost", Some(15)));
    world.kernel.routes.clear();
    world.send(Event::Overrun);
    world.settle();
    assert_eq!(world.kernel, before, "the kernel is repaired all the same");
}

#[test]
fn a_boot_without_the_directory_comes_up_with_the_last_known_peers() {
    let saved = World::with_peers("", 4).saved.unwrap();
    let mut world = World::empty("");
    world.send(Event::Restored(saved));
    world.send(Event::Underlay(Some(underlay(1500, "192.0.2.1"))));
    world.send(Event::Directory(Update::Lost("no route to host".into())));
    world.settle();
    assert_eq!(world.routes().len(), 3);
    assert_eq!(world.state.unwrap().standing, owner());
}

#[test]
fn the_last_known_peers_are_what_the_first_answer_is_held_against() {
    let saved = World::with_peers("", 11).saved.unwrap();
    let mut world = World::empty("");
    world.send(Event::Restored(saved));
    world.send(Event::Underlay(Some(underlay(1500, "192.0.2.1"))));
    world.list([1]);
    world.settle();
    assert_eq!((world.routes().len(), world.machine.status(world.now).held), (10, 10));
}

#[test]
fn more_than_half_of_the_peers_do_not_go_at_once() {
    let mut world = World::with_peers("", 11);
    let before = world.kernel.clone();
    world.list([1, 2, 3]);
    world.settle();
    assert_eq!(world.kernel, before);
    assert!(world.logged("8 of 10 peers are gone"));
    assert_eq!((world.lists, world.machine.status(world.now).held), (0, 8));
    // A new host may come all the same, and may even have the subnet of one that is held.
    let mut newcomer = record(20);
    newcomer.subnets = vec!["10.244.9.0/24".parse().unwrap()];
    let change = ("h20".to_owned(), Some(Candidate { rank: 99, record: Ok(newcomer) }));
    world.send(Event::Directory(Update::Changes(vec![change])));
    world.settle();
    assert_eq!(world.routes().len(), 10);
    assert_eq!(world.machine.peers()[&"h20".parse().unwrap()].subnets[0].to_string(), "10.244.9.0/24");
    world.run_until(world.now + HOLD);
    assert_eq!(world.lists, 1, "the directory is asked again");
    assert_eq!(world.routes().len(), 10, "and until it answers nothing goes");
    world.list([1, 2, 3, 20]);
    world.settle();
    assert_eq!(world.routes().len(), 3, "then it is believed");
}

#[test]
fn a_directory_that_comes_back_to_its_senses_is_believed() {
    let mut world = World::with_peers("", 11);
    let before = world.kernel.clone();
    world.list([1]);
    world.settle();
    world.list(1..=11);
    world.settle();
    assert_eq!((world.kernel == before, world.machine.status(world.now).held), (true, 0));
    world.list(1..=6);
    world.settle();
    assert_eq!(world.routes().len(), 5, "half may go at once");
}

#[test]
fn a_person_may_confirm() {
    let mut world = World::with_peers("", 11);
    world.list([1]);
    world.settle();
    world.send(Event::Confirm);
    assert_eq!(world.lists, 1);
    world.list([1]);
    world.settle();
    assert!(world.routes().is_empty());
}

#[test]
fn the_underlay_is_followed() {
    let mut world = World::with_peers("", 4);
    world.send(Event::Underlay(Some(underlay(1400, "192.0.2.1"))));
    world.settle();
    assert_eq!(world.state.as_ref().map(|state| u32::from(state.mtu)), Some(1350));
    assert_eq!(world.devices.last().map(|spec| u32::from(spec.mtu)), Some(1350));
    world.send(Event::Underlay(Some(underlay(9000, "192.0.2.101"))));
    world.settle();
    assert_eq!(world.devices.last().map(|spec| spec.local.to_string()).as_deref(), Some("192.0.2.101"));
    let published = world.published.clone().unwrap();
    assert_eq!(published.underlay.v4, Some("192.0.2.101".parse().unwrap()));
    let devices = world.devices.len();
    world.send(Event::Underlay(None));
    world.settle();
    assert_eq!(
        (world.devices.len(), world.routes().len()),
        (devices, 3),
        "no underlay: nothing is torn down"
    );
    world.send(Event::Underlay(Some(underlay(100, "192.0.2.101"))));
    world.settle();
    assert!(world.logged("no tunnel fits through eth0 (MTU 100)"));
}

#[test]
fn ways_are_chosen_and_chosen_again() {
    let mut world = World::with_peers(r#","direct":true"#, 3);
    let way = |world: &World| world.machine.desired().routes[&"10.244.2.0/24".parse::<IpNetwork>().unwrap()];
    assert_eq!(way(&world), Way::Direct { gateway: "192.0.2.2".parse().unwrap() });
    assert!(world.kernel.fdb.is_empty());
    let far = Underlay { around: Neighbourhood::default(), ..underlay(1500, "192.0.2.1") };
    world.send(Event::Underlay(Some(far)));
    world.settle();
    assert_eq!(way(&world), Way::Tunnel { gateway: "10.244.2.0".parse().unwrap() });
    assert_eq!((world.kernel.fdb.len(), world.kernel.routes.len()), (2, 2));
}

#[test]
fn a_subnet_that_is_lost_is_neither_renumbered_nor_used() {
    let mut world = World::with_peers("", 3);
    let lost = Standing::Lost { subnets: owner().subnets().to_vec(), why: "h9 owns it".into() };
    world.send(Event::Standing(lost.clone()));
    world.settle();
    assert_eq!(world.state.as_ref().map(|state| state.standing.clone()), Some(lost));
    assert!(world.published.as_ref().is_some_and(|record| record.subnets.is_empty()));
    assert_eq!(
        world.devices.last().map(|spec| spec.addresses.len()),
        Some(1),
        "the containers keep their host"
    );
    assert!(world.logged("lost 10.244.1.0/24: h9 owns it"));
}

#[test]
fn failures_are_said_once_and_tried_again() {
    let mut world = World::empty("");
    world.device_fails = Some("add link ovl7: port 4789 is in use".into());
    world.send(Event::Underlay(Some(underlay(1500, "192.0.2.1"))));
    world.list([1, 2, 3]);
    world.settle();
    assert_eq!(world.log.iter().filter(|line| line.contains("in use")).count(), 1);
    assert!(!world.machine.status(world.now).device_ready);
    world.device_fails = None;
    world.write_fails = 2;
    world.run_until(world.now + LAST_BACKOFF * 2);
    assert!(world.logged("set x: refused (and 1 more)"));
    assert_eq!(world.routes().len(), 2);
    assert!(world.machine.status(world.now).in_sync);
}

#[test]
fn a_hostile_record_is_named_once_and_harms_nobody() {
    let mut world = World::with_peers("", 4);
    let before = world.kernel.clone();
    let mut hostile = record(66);
    hostile.subnets = vec!["10.244.2.0/24".parse().unwrap()];
    let change = ("h66".to_owned(), Some(Candidate { rank: 99, record: Ok(hostile) }));
    for _ in 0..3 {
        world.send(Event::Directory(Update::Changes(vec![change.clone()])));
        world.settle();
    }
    assert_eq!(world.kernel, before);
    let line = "peer record h66 refused: subnets: 10.244.2.0/24 overlaps 10.244.2.0/24 of h2";
    assert_eq!(world.log.iter().filter(|logged| *logged == line).count(), 1);
    assert_eq!(world.machine.status(world.now).refused.len(), 1);
}

#[test]
fn checksums_that_do_not_arrive_are_the_kernels_to_write() {
    let mut world = World::empty("");
    world.probe_finds = Some(Probed::Unanswered);
    world.send(Event::Underlay(Some(underlay(1500, "192.0.2.1"))));
    world.list(1..=6);
    world.settle();
    assert!(world.probes.is_empty(), "a host without a subnet has no address to ask from");
    world.send(Event::Standing(owner()));
    world.send(Event::Underlay(Some(underlay(1400, "192.0.2.1"))));
    world.run_until(world.now + RESYNC * 3);
    let asked = world.probes.len();
    assert!((5..15).contains(&asked), "asked again and again, ever more seldom: {asked}");
    assert_eq!(
        world.probes[0],
        ["10.244.2.0", "10.244.3.0", "10.244.4.0"].map(|ip| ip.parse::<IpAddr>().unwrap())
    );
    assert_eq!(world.machine.status(world.now).checksums, Checksums::Offloaded);
    world.probe_finds = Some(Probed::Broken { peer: "10.244.2.0".parse().unwrap() });
    world.run_until(world.now + RESYNC * 2);
    assert_eq!(world.probes.len(), asked + 1, "once is enough");
    assert!(world.logged("whose checksum eth0 has to write do not arrive at 10.244.2.0"));
    assert_eq!(world.devices.last().map(|spec| spec.checksums), Some(Checksums::Software));
    assert_eq!(world.routes().len(), 5);
}

#[test]
fn checksums_that_arrive_are_asked_about_once_an_hour() {
    let mut world = World::with_peers("", 4);
    assert_eq!(world.probes.len(), 1);
    world.run_until(world.now + Duration::from_secs(3700));
    assert_eq!((world.probes.len(), world.devices.len()), (2, 1));
}

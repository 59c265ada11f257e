use std::{
    collections::BTreeMap,
    os::unix::fs::{MetadataExt, PermissionsExt},
    sync::Barrier,
};

use tempfile::TempDir;

use super::*;
use crate::{
    range::{RangeConf, RangeSet, SetConf, parse_sets},
    store::lease::LeaseError,
};

/// A data directory, a `/run` and a `/var/lib` of one's own, and the boot that it is now.
struct World {
    dir: TempDir,
    boot: &'static str,
    host: &'static str,
}

impl World {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), boot: "boot-1", host: "host-1" }
    }

    fn place(&self) -> Place {
        let [run, state, data] = ["run", "state", "data"].map(|name| self.dir.path().join(name));
        Place::under(&run, &state, &data, &"net".parse().unwrap())
    }

    fn open(&self) -> Option<Store> {
        Store::open_as(&self.place(), Origin::new(self.host, self.boot)).unwrap()
    }

    fn store(&self) -> Store {
        fs::create_dir_all(self.place().leases).unwrap();
        self.open().unwrap()
    }

    fn lease(&self, container: &str, subnets: &[&str]) -> String {
        self.try_lease(container, subnets, &[]).unwrap_or_else(|err| err.to_string())
    }

    fn try_lease(&self, container: &str, subnets: &[&str], requested: &[&str]) -> Result<String, LeaseError> {
        let sets = sets(subnets);
        let requested: Vec<_> = requested.iter().map(|ip| ip.parse().ok()).collect();
        let leases = self.store().lease(&at(container), &sets, &requested)?;
        Ok(leases.iter().map(|(address, _)| address.to_string()).collect::<Vec<_>>().join(" "))
    }

    fn held(&self, container: &str) -> String {
        words(&self.store().held(&at(container)).unwrap())
    }

    fn release(&self, container: &str) -> String {
        words(&self.store().release(&at(container)).unwrap())
    }

    /// What is in the leases' directory, but the lock.
    fn files(&self) -> BTreeMap<String, String> {
        let entries = fs::read_dir(self.place().leases).unwrap().map(Result::unwrap);
        let file = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        };
        entries.map(file).filter(|(name, _)| name != LOCK).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place().leases.join(name)
    }
}

fn at(container: &str) -> Attachment {
    let [network, container, ifname] = ["net", container, "eth0"];
    Attachment {
        network: network.parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: ifname.parse().unwrap(),
    }
}

fn sets(subnets: &[&str]) -> Vec<RangeSet> {
    let set = |subnet: &&str| {
        let subnet = subnet.parse().unwrap();
        let range = RangeConf { subnet, range_start: None, range_end: None, gateway: None };
        SetConf::single("set".into(), range)
    };
    parse_sets(&subnets.iter().map(set).collect::<Vec<_>>()).unwrap()
}

fn words(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_layout_is_the_reference_s() {
    let world = World::new();
    assert_eq!(world.lease("c1", &["10.0.0.0/29", "fd00::/64"]), "10.0.0.2 fd00::2");
    let expected = [
        ("10.0.0.2", "c1\r\neth0"),
        ("fd00::2", "c1\r\neth0"),
        ("last_reserved_ip.0", "10.0.0.2"),
        ("last_reserved_ip.1", "fd00::2"),
    ];
    assert_eq!(world.files(), expected.map(|(name, content)| (name.into(), content.into())).into());
    assert_eq!(fs::metadata(world.path("10.0.0.2")).unwrap().permissions().mode() & 0o777, 0o600);
    // Beside it, under no name that a network can have, the draft is gone.
    assert_eq!(fs::read_dir(world.dir.path().join("data")).unwrap().count(), 1);

    assert_eq!(world.held("c1"), "10.0.0.2 fd00::2");
    assert_eq!(world.held("c2"), "");
    assert_eq!(world.release("c1"), "10.0.0.2 fd00::2");
    assert_eq!(world.release("c1"), "");
    assert_eq!(world.files().into_keys().collect::<Vec<_>>(), ["last_reserved_ip.0", "last_reserved_ip.1"]);
    assert_eq!(fs::read_dir(world.dir.path().join("run")).unwrap().count(), 0, "no index of nothing");
}

#[test]
fn nothing_is_made_to_look_at_nothing() {
    let world = World::new();
    assert!(world.open().is_none());
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), 0);
}

#[test]
fn all_or_none() {
    let world = World::new();
    assert_eq!(world.lease("c1", &["10.0.0.0/29", "10.0.1.0/30"]), "10.0.0.2 10.0.1.2");
    let exhausted = "range set 1: no IP addresses available in range set: 10.0.1.1-10.0.1.2";
    assert_eq!(world.lease("c2", &["10.0.0.0/29", "10.0.1.0/30"]), exhausted);
    assert_eq!(world.held("c2"), "");
    assert!(!world.path("10.0.0.3").exists());
    let duplicate = "10.0.0.2 has been allocated to c1, duplicate allocation is not allowed";
    assert_eq!(world.lease("c1", &["10.0.0.0/29"]), duplicate);
    // As in the reference, an attachment may hold addresses of sets that the configuration no longer names.
    assert_eq!(world.lease("c1", &["10.0.2.0/29"]), "10.0.2.2");
    assert_eq!(world.held("c1"), "10.0.0.2 10.0.1.2 10.0.2.2");
    assert_eq!(world.release("c1"), "10.0.0.2 10.0.1.2 10.0.2.2");
}

#[test]
fn requested_addresses_are_given_or_refused() {
    let world = World::new();
    let requested = world.try_lease("c1", &["10.0.0.0/29", "fd00::/64"], &["10.0.0.5", ""]).unwrap();
    assert_eq!(requested, "10.0.0.5 fd00::2");
    let taken = "requested IP address 10.0.0.5 is not available in range set 10.0.0.1-10.0.0.6: container c1 holds it";
    assert_eq!(world.try_lease("c2", &["10.0.0.0/29"], &["10.0.0.5"]).unwrap_err().to_string(), taken);
    // The reference gives an attachment a second address if only it asks for it.
    world.try_lease("c1", &["10.0.0.0/29"], &["10.0.0.4"]).unwrap_err();
    assert_eq!(world.lease("c3", &["10.0.0.0/29"]), "10.0.0.6", "round robin goes on from there");
}

#[test]
fn the_reference_may_change_the_leases_between_any_two_calls() {
    let world = World::new();
    world.lease("c0", &["10.0.0.0/16"]);
    // Faster than a kernel's tick of 1 to 10 ms, so that times of modification of the kernel's making are often
    // equal.
    for round in 0..500 {
        let (ours, theirs) = (format!("ours{round}"), format!("theirs{round}"));
        let address = world.lease(&ours, &["10.0.0.0/16"]);
        let free = format!("10.0.255.{}", round % 250);
        fs::write(world.path(&free), format!("{theirs}\r\neth0")).unwrap();
        assert_eq!(world.held(&theirs), free, "a lease made by another program");
        fs::remove_file(world.path(&address)).unwrap();
        assert_eq!(world.held(&ours), "", "a lease removed by another program");
        assert_eq!(world.release(&theirs), free);
        assert!(!world.path(&free).exists());
    }
    assert_eq!(world.release("c0"), "10.0.0.2");
}

#[test]
fn legacy_leases_hold_the_container_alone() {
    let world = World::new();
    world.store();
    fs::write(world.path("10.0.0.5"), "c1\n").unwrap();
    assert_eq!(world.held("c1"), "10.0.0.5");
    world.lease("c1", &["10.0.0.0/29"]);
    assert_eq!(world.lease("c1", &["10.0.1.0/29"]), "10.0.1.2");
    // What names the interface goes first; the rest on the next call.
    assert_eq!(world.release("c1"), "10.0.1.2");
    assert_eq!(world.release("c1"), "10.0.0.5");
}

#[test]
fn an_edited_lease_is_noticed() {
    let world = World::new();
    world.lease("c1", &["10.0.0.0/29"]);
    world.lease("c2", &["10.0.0.0/29"]);
    fs::write(world.path("10.0.0.2"), " c3\r\neth0 \n").unwrap();
    assert_eq!(world.held("c1"), "");
    assert_eq!(world.release("c1"), "");
    assert_eq!(world.held("c3"), "10.0.0.2");
}

#[test]
fn torn_leases_are_free() {
    let world = World::new();
    world.store();
    // The reference creates, then writes; a host that loses power between leaves either.
    fs::write(world.path("10.0.0.2"), "").unwrap();
    fs::write(world.path("10.0.0.3"), "\0\0\0\0\0\0").unwrap();
    fs::write(world.path("10.0.0.4"), "c9\r\neth0").unwrap();
    assert_eq!(world.lease("c1", &["10.0.0.0/29"]), "10.0.0.2");
    assert_eq!(world.lease("c2", &["10.0.0.0/29"]), "10.0.0.3");
    assert_eq!(world.lease("c3", &["10.0.0.0/29"]), "10.0.0.5");
}

#[test]
fn leases_of_an_earlier_boot_are_reclaimed() {
    let mut world = World::new();
    world.lease("ours", &["10.0.0.0/29", "fd00::/64"]);
    world.host = "host-2";
    world.lease("elsewhere", &["10.0.0.0/29"]);
    world.host = "host-1";
    fs::write(world.path("10.0.0.6"), "theirs\r\neth0").unwrap();
    assert_eq!(world.held("ours"), "10.0.0.2 fd00::2");

    world.boot = "boot-2";
    assert_eq!(world.held("ours"), "");
    assert!(!world.path("fd00::2").exists());
    assert_eq!(world.held("elsewhere"), "10.0.0.3", "a data directory may be shared by hosts");
    assert_eq!(world.held("theirs"), "10.0.0.6", "what the reference leased has no mark");
    assert_eq!(world.lease("ours", &["10.0.0.0/29"]), "10.0.0.4");
}

#[test]
fn an_index_that_can_not_be_kept_costs_no_answer() {
    let world = World::new();
    // A file where the index wants a directory.
    fs::write(world.dir.path().join("run"), "").unwrap();
    assert_eq!(world.lease("c1", &["10.0.0.0/29"]), "10.0.0.2");
    assert_eq!(world.lease("c2", &["10.0.0.0/29"]), "10.0.0.3");
    assert_eq!(world.held("c1"), "10.0.0.2");
    world.lease("c1", &["10.0.0.0/29"]);
    let mut store = world.store();
    store.lease(&at("c3"), &sets(&["10.0.0.0/29"]), &[]).unwrap();
    assert_eq!(words(&store.held(&at("c3")).unwrap()), "10.0.0.4");
    assert_eq!(words(&store.release(&at("c3")).unwrap()), "10.0.0.4");
    assert_eq!(words(&store.held(&at("c3")).unwrap()), "");
}

#[test]
fn an_index_in_step_is_believed_about_who_has_nothing() {
    let world = World::new();
    world.lease("c1", &["10.0.0.0/29"]);
    // Changed behind the seal's back: the index answers, not the leases.
    fs::write(world.path("10.0.0.5"), "c5\r\neth0").unwrap();
    let seal = world.place().index.with_added_extension("boot-1");
    let sealed = fs::metadata(&seal).unwrap().modified().unwrap();
    File::open(world.place().leases).unwrap().set_modified(sealed).unwrap();
    assert_eq!(world.held("c5"), "");
    fs::remove_file(seal).unwrap();
    assert_eq!(world.held("c5"), "10.0.0.5");
}

#[test]
fn a_long_stretch_of_leases_is_passed_over() {
    let world = World::new();
    world.store();
    for number in 2..=200 {
        fs::write(world.path(&format!("10.0.0.{number}")), "other\r\neth0").unwrap();
    }
    let subnet = ["10.0.0.0/24"];
    assert_eq!(world.lease("c1", &subnet), "10.0.0.201");
    fs::write(world.path("last_reserved_ip.0"), "10.0.0.20").unwrap();
    assert_eq!(world.lease("c2", &subnet), "10.0.0.202");
    for number in 203..=254 {
        assert!(world.store().has_free(0, &sets(&subnet)[0]).unwrap());
        assert_eq!(world.lease(&format!("c{number}"), &subnet), format!("10.0.0.{number}"));
    }
    assert!(!world.store().has_free(0, &sets(&subnet)[0]).unwrap());
    world.release("c230");
    assert!(world.store().has_free(0, &sets(&subnet)[0]).unwrap());
    assert_eq!(world.lease("c1000", &subnet), "10.0.0.230", "once around");
}

#[test]
fn retain_asks_about_each_owner() {
    let world = World::new();
    for container in ["c1", "c2", "c3"] {
        world.lease(container, &["10.0.0.0/29", "fd00::/64"]);
    }
    fs::write(world.path("10.0.0.6"), "legacy").unwrap();
    let released = world.store().retain(|owner| owner.container() == "c2").unwrap();
    assert_eq!(words(&released), "10.0.0.2 10.0.0.4 10.0.0.6 fd00::2 fd00::4");
    assert_eq!(world.held("c2"), "10.0.0.3 fd00::3");
    assert_eq!(world.held("c1"), "");
    let released = world.store().retain(|_| false).unwrap();
    assert_eq!(words(&released), "10.0.0.3 fd00::3");
    assert_eq!(fs::read_dir(world.dir.path().join("run")).unwrap().count(), 0, "no index of nothing");
}

#[test]
fn a_draft_left_by_a_killed_process_does_no_harm() {
    let world = World::new();
    world.lease("c1", &["10.0.0.0/29"]);
    // Killed between the link and the removal of the draft: it is the lease.
    fs::hard_link(world.path("10.0.0.2"), world.place().draft).unwrap();
    assert_eq!(world.lease("c2", &["10.0.0.0/29"]), "10.0.0.3");
    assert_eq!(world.held("c1"), "10.0.0.2");
    assert_eq!(fs::metadata(world.path("10.0.0.2")).unwrap().nlink(), 1);
    fs::write(world.place().draft, "c3\r\neth0").unwrap();
    world.release("c3");
    assert!(!world.place().draft.exists());
}

#[test]
fn a_hundred_at_once() {
    let world = World::new();
    world.store();
    let start = Barrier::new(100);
    let leases: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..100)
            .map(|number| {
                let (world, start) = (&world, &start);
                scope.spawn(move || {
                    start.wait();
                    world.lease(&format!("c{number}"), &["10.0.0.0/24"])
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: BTreeSet<_> = leases.iter().map(|lease| lease.parse::<IpAddr>().unwrap()).collect();
    assert_eq!(distinct.len(), 100, "{leases:?}");
    for (number, lease) in leases.iter().enumerate() {
        assert_eq!(world.release(&format!("c{number}")), *lease);
    }
}

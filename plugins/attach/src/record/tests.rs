use super::*;

fn attachment(container: &str) -> Attachment {
    Attachment {
        network: "n".parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

/// Records in a directory of the test's own, not yet there, which goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tenon-records-{name}-{}", std::process::id())))
    }

    fn records(&self, plugin: &str) -> Records {
        Records::below(&self.0, plugin, &"n".parse().unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_record_lives_from_begin_to_remove() {
    let scratch = Scratch::new("life");
    let records = scratch.records("bridge");
    let (a, b) = (attachment("a"), attachment("b"));
    assert_eq!(records.find::<String>(&a).unwrap(), None);
    records.remove(&a).unwrap();
    records.begin(&a, &"one").unwrap();
    assert_eq!(records.find::<String>(&a).unwrap(), Some((State::Pending, "one".into())));
    records.complete(&a).unwrap();
    assert_eq!(records.find::<String>(&a).unwrap(), Some((State::Complete, "one".into())));
    records.begin(&b, &"two").unwrap();
    let all = records.all::<String>().unwrap();
    assert_eq!(all.iter().map(|r| r.data.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    records.remove(&a).unwrap();
    assert_eq!(records.find::<String>(&a).unwrap(), None);
    assert_eq!(records.all::<String>().unwrap().len(), 1);
}

#[test]
fn the_last_one_out_retires_the_network() {
    let scratch = Scratch::new("last");
    let (bridge, portmap) = (scratch.records("bridge"), scratch.records("portmap"));
    let a = attachment("a");
    assert!(!bridge.retire().unwrap());
    bridge.begin(&a, &1).unwrap();
    portmap.begin(&a, &1).unwrap();
    assert!(!bridge.retire().unwrap());
    bridge.remove(&a).unwrap();
    assert!(bridge.retire().unwrap());
    assert!(!bridge.retire().unwrap());
    portmap.remove(&a).unwrap();
    assert!(portmap.retire().unwrap());
    assert!(!scratch.0.join("n").exists());
    bridge.begin(&a, &2).unwrap();
    assert_eq!(bridge.all::<u32>().unwrap().len(), 1);
}

#[test]
fn a_torn_record_counts_as_absent_and_a_new_one_replaces_it() {
    let scratch = Scratch::new("torn");
    let records = scratch.records("bridge");
    let a = attachment("a");
    records.begin(&a, &"one").unwrap();
    fs::write(records.path(&a, State::Pending), "{\"attachment\": {\"netw").unwrap();
    assert_eq!(records.find::<String>(&a).unwrap(), None);
    assert_eq!(records.all::<String>().unwrap(), []);
    records.begin(&a, &"two").unwrap();
    assert_eq!(records.find::<String>(&a).unwrap(), Some((State::Pending, "two".into())));
}

#[test]
fn gc_removes_torn_records_but_of_the_valid() {
    let scratch = Scratch::new("gc");
    let records = scratch.records("bridge");
    let [a, b, c] = ["a", "b", "c"].map(attachment);
    for torn in [&a, &b] {
        records.begin(torn, &"one").unwrap();
        fs::write(records.path(torn, State::Pending), "").unwrap();
    }
    records.begin(&c, &"three").unwrap();
    records.remove_unreadable::<String>(std::slice::from_ref(&a)).unwrap();
    let there = [&a, &b, &c].map(|of| records.path(of, State::Pending).exists());
    assert_eq!(there, [true, false, true]);
    records.remove(&c).unwrap();
    records.remove_unreadable::<String>(&[]).unwrap();
    assert!(!scratch.0.join("n").exists());
}

#[test]
fn plugins_do_not_see_each_others_records() {
    let scratch = Scratch::new("plugins");
    let (bridge, portmap) = (scratch.records("bridge"), scratch.records("portmap"));
    let a = attachment("a");
    bridge.begin(&a, &1).unwrap();
    assert_eq!(portmap.find::<u32>(&a).unwrap(), None);
    assert_eq!(portmap.all::<u32>().unwrap(), []);
    portmap.remove(&a).unwrap();
    assert_eq!(bridge.all::<u32>().unwrap().len(), 1);
}

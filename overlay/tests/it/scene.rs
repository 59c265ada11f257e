//! A host with an uplink, a keeper on it, and peers that need not be there to be programmed.

use std::time::{Duration, Instant};

use overlay::{
    definition::Definition,
    host::underlay::Wanted,
    keeper::{Dirs, Errand, Keeper},
    machine::{Event, Update},
    peer::{Candidate, Candidates, Record},
    state::Standing,
};
use testenv::{lab::Lab, ns::Ns, wait};

pub(crate) fn dirs(lab: &Lab) -> Dirs {
    Dirs { run: lab.dir().join("run"), lib: lab.dir().join("lib") }
}

/// The host's uplink `eth0` with 198.51.100.1/24, and the namespace behind it.
pub(crate) fn uplink(lab: &Lab) -> Ns {
    // The device and what hangs on it stay for as long as the network does.
    lab.allow("ovl7");
    lab.allow("tenon-overlay");
    lab.outside("eth0")
}

pub(crate) fn record(number: u16) -> Record {
    let [high, low] = number.to_be_bytes();
    moved(number, &format!("203.0.{high}.{low}"), &format!("02:00:00:01:{high:02x}:{low:02x}"))
}

/// The record of a host that is elsewhere than [`record`] says.
pub(crate) fn moved(number: u16, underlay: &str, mac: &str) -> Record {
    let [high, low] = number.to_be_bytes();
    let json = serde_json::json!({
        "node": format!("h{number}"),
        "underlay": {"v4": underlay},
        "mac": {"v4": mac},
        "subnets": [format!("10.{}.{low}.0/24", 100 + u16::from(high))],
    });
    serde_json::from_value(json).unwrap()
}

pub(crate) fn candidates(numbers: impl IntoIterator<Item = u16>) -> Candidates {
    let candidate =
        |number: u16| (format!("h{number}"), Candidate { rank: number.into(), record: Ok(record(number)) });
    numbers.into_iter().map(candidate).collect()
}

pub(crate) fn definition() -> Definition {
    serde_json::from_str(r#"{"name":"lab","vni":7,"pools":["10.96.0.0/11"]}"#).unwrap()
}

pub(crate) fn keeper(lab: &Lab) -> Keeper {
    let now = Instant::now();
    let node = "us".parse().unwrap();
    let mut keeper = Keeper::open(definition(), node, Wanted::default(), dirs(lab), now).unwrap();
    keeper.start(now);
    let subnets = vec!["10.127.255.0/24".parse().unwrap()];
    keeper.handle(Event::Standing(Standing::Owner { subnets }), now);
    keeper
}

/// Lets the keeper run in real time until it holds what it should. Returns how long that took.
#[track_caller]
pub(crate) fn settle(keeper: &mut Keeper) -> Duration {
    let start = Instant::now();
    let settled = wait::poll(Duration::from_secs(20), || {
        let now = Instant::now();
        keeper.take_news(now);
        keeper.handle(Event::Wake, now);
        (keeper.machine().status(now).in_sync && difference(keeper) == 0).then_some(())
    });
    let status = keeper.machine().status(Instant::now());
    let mut log = || {
        keeper.errands().into_iter().filter(|errand| matches!(errand, Errand::Log(..))).collect::<Vec<_>>()
    };
    assert!(settled.is_some(), "the keeper does not settle: {status:?}\n{:?}", log());
    start.elapsed()
}

pub(crate) fn difference(keeper: &mut Keeper) -> usize {
    let actual = keeper.dump().unwrap().unwrap_or_default();
    keeper.machine().difference(&actual).len()
}

pub(crate) fn list(keeper: &mut Keeper, numbers: impl IntoIterator<Item = u16>) {
    keeper.handle(Event::Directory(Update::Snapshot(candidates(numbers))), Instant::now());
}

pub(crate) fn logged(keeper: &mut Keeper, text: &str) -> bool {
    keeper.errands().iter().any(|errand| matches!(errand, Errand::Log(_, line) if line.contains(text)))
}

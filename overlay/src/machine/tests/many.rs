//! Sixty thousand hosts.

use super::*;

/// Host `number` of very many, at its `life`: each has another address and MAC.
fn one_of_many(number: u32, life: u8) -> (String, Candidate) {
    let [_, a, b, c] = number.to_be_bytes();
    let json = format!(
        r#"{{"node":"n{number}","underlay":{{"v4":"17{life}.{a}.{b}.{c}"}},"mac":{{"v4":"02:0{life}:00:{a:02x}:{b:02x}:{c:02x}"}},
            "subnets":["10.{b}.{c}.0/24"]}}"#
    );
    (
        format!("n{number}"),
        Candidate { rank: number.into(), record: Ok(serde_json::from_str(&json).unwrap()) },
    )
}

#[test]
fn sixty_thousand_peers_come_move_flap_and_go() {
    const MANY_HOSTS: u32 = 60_000;
    let mut world = World::empty("");
    world.machine = Machine::new(
        serde_json::from_str(r#"{"name":"lab","vni":7,"pools":["10.0.0.0/8"]}"#).unwrap(),
        "us".parse().unwrap(),
        world.now,
    );
    world.send(Event::Underlay(Some(underlay(1500, "192.0.2.1"))));
    world.send(Event::Standing(Standing::Owner { subnets: vec!["10.255.255.0/24".parse().unwrap()] }));
    let mut all: Candidates = (1..=MANY_HOSTS).map(|n| one_of_many(n, 1)).collect();
    world.send(Event::Directory(Update::Snapshot(all.clone())));
    world.settle();
    let count = usize::try_from(MANY_HOSTS).unwrap();
    assert_eq!((world.kernel.routes.len(), world.writes.clone()), (count, vec![count * 3]));
    // A thousand move, in as many messages within a moment: one write, of what changed alone.
    let moved: Vec<_> = (1..=1000).map(|n| one_of_many(n, 2)).collect();
    all.extend(moved.iter().cloned());
    for (key, candidate) in moved {
        world.send(Event::Directory(Update::Changes(vec![(key, Some(candidate))])));
    }
    world.settle();
    // A neighbour and an entry are set, and the old entry is removed; the route stays.
    assert_eq!(world.writes[1..], [3000]);
    // One that goes and comes back within the moment costs nothing.
    let (key, candidate) = one_of_many(5000, 1);
    for candidate in [None, Some(candidate)] {
        world.send(Event::Directory(Update::Changes(vec![(key.clone(), candidate)])));
    }
    world.settle();
    assert_eq!(world.writes.len(), 2);
    // A compaction hid that a tenth went and another one moved: the snapshot tells.
    all.retain(|key, _| !key.ends_with('7'));
    all.extend([one_of_many(2, 3)]);
    world.send(Event::Directory(Update::Snapshot(all)));
    world.settle();
    assert_eq!(world.writes[2..], [count / 10 * 3 + 3]);
    assert_eq!(world.kernel.routes.len(), count - count / 10);
    assert!(world.machine.difference(&world.kernel).is_empty());
}

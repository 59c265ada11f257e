//! Who may take out what: late DELs, former holders, many at once, GC.

use std::{collections::BTreeSet, thread};

use attach::ruleset::{owner::Owner, plan::Plan, spoof_check::SpoofCheck, sweep};
use kernel::nft::Nft;
use testenv::lab;

use crate::scene::{attachment, listing, masquerade, nft, remove_tables};

const NOTHING: [&str; 0] = [];

#[test]
fn add_and_remove_repeat() {
    lab::run("add_and_remove_repeat", |_| {
        let mut nft = Nft::open().unwrap();
        let owner = attachment("n", "c1");
        let check =
            SpoofCheck { port: "p", mac: "02:00:00:00:00:01".parse().unwrap(), owner: &Owner::of(&owner) };
        let plan = masquerade(&owner, "cni0", &["10.88.0.5/16", "fd00::5/64"]).spoof_check(&check);
        plan.remove(&mut nft).expect("there is no table");
        plan.add(&mut nft).unwrap();
        plan.add(&mut nft).unwrap();
        assert_eq!(plan.missing(&mut nft).unwrap(), NOTHING);
        plan.remove(&mut nft).unwrap();
        assert_eq!(sweep::owners(&mut nft).unwrap(), BTreeSet::new());
        plan.remove(&mut nft).unwrap();
        remove_tables(&mut nft);
    });
}

/// ADD a at an address, ADD b at the same, DEL a: b stays whole.
#[test]
fn late_del_hits_nobody_else() {
    lab::run("late_del_hits_nobody_else", |_| {
        let mut nft = Nft::open().unwrap();
        let (a, b) = (attachment("n", "a"), attachment("n", "b"));
        let of_a = masquerade(&a, "cni0", &["10.88.0.5/24", "fd00::5/64"]);
        let of_b = masquerade(&b, "cni0", &["10.88.0.5/16", "fd00::6/64"]);
        of_a.add(&mut nft).unwrap();
        of_b.add(&mut nft).unwrap();
        assert_eq!(of_b.missing(&mut nft).unwrap(), NOTHING);
        let missing = of_a.missing(&mut nft).unwrap();
        assert!(
            missing.iter().any(|text| text.contains("10.88.0.0 in set inet tenon exempt4_24")),
            "{missing:?}"
        );
        of_a.remove(&mut nft).unwrap();
        assert_eq!(of_b.missing(&mut nft).unwrap(), NOTHING);
        let owners = sweep::owners(&mut nft).unwrap();
        assert_eq!(owners, BTreeSet::from(["n/b/eth0".to_owned()]), "what was a's alone is gone");
        of_b.remove(&mut nft).unwrap();
        remove_tables(&mut nft);
    });
}

#[test]
fn a_flushed_ruleset_is_seen_and_made_again() {
    lab::run("a_flushed_ruleset_is_seen_and_made_again", |lab| {
        lab.needs_program("nft", "nftables");
        let mut netlink = Nft::open().unwrap();
        let plan = masquerade(&attachment("n", "c1"), "cni0", &["10.88.0.5/16"]);
        plan.add(&mut netlink).unwrap();
        nft(&["flush", "chain", "inet", "tenon", "masquerading"], "");
        let rule = |set| format!("a rule of chain inet tenon masquerading for set {set}");
        let missing = plan.missing(&mut netlink).unwrap();
        assert_eq!(missing, [rule("masq4"), rule("masq6"), rule("exempt4_16")]);
        nft(&["flush", "ruleset"], "");
        assert_eq!(plan.missing(&mut netlink).unwrap().len(), 6);
        plan.remove(&mut netlink).unwrap();
        plan.add(&mut netlink).unwrap();
        assert_eq!(plan.missing(&mut netlink).unwrap(), NOTHING);
        remove_tables(&mut netlink);
    });
}

/// All find no table at first; one of them makes each feature.
#[test]
fn many_at_once_make_one_schema() {
    lab::run("many_at_once_make_one_schema", |lab| {
        let plan =
            |n: u8| masquerade(&attachment("n", &format!("c{n}")), "cni0", &[&format!("10.88.0.{n}/16")]);
        let mut nft = Nft::open().unwrap();
        let alone = {
            plan(1).add(&mut nft).unwrap();
            plan(1).remove(&mut nft).unwrap();
            let listing = listing(lab);
            remove_tables(&mut nft);
            listing
        };
        for _ in 0..5 {
            let together = |work: fn(&Plan, &mut Nft)| {
                thread::scope(|scope| {
                    for n in 1..=16 {
                        scope.spawn(move || work(&plan(n), &mut Nft::open().unwrap()));
                    }
                });
            };
            together(|plan, nft| plan.add(nft).unwrap());
            assert_eq!(sweep::owners(&mut nft).unwrap().len(), 16);
            together(|plan, nft| plan.remove(nft).unwrap());
            assert_eq!(listing(lab), alone);
            remove_tables(&mut nft);
        }
    });
}

#[test]
fn sweeps_a_network_of_what_is_not_valid() {
    lab::run("sweeps_a_network_of_what_is_not_valid", |_| {
        let mut nft = Nft::open().unwrap();
        let keep = [attachment("n", "keep"), attachment("n", "keep2")];
        let mut count = 0;
        for owner in keep.iter().chain(&[attachment("n", "stale"), attachment("n2", "other")]) {
            count += 1;
            masquerade(owner, "cni0", &[&format!("10.88.0.{count}/16")]).add(&mut nft).unwrap();
        }
        sweep::remove_stale(&mut nft, &"n".parse().unwrap(), &keep).unwrap();
        let owners = || sweep::owners(&mut Nft::open().unwrap()).unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(owners(), ["n/keep/eth0", "n/keep2/eth0", "n2/other/eth0"]);
        sweep::remove_owned(&mut nft, &Owner::of(&keep[0])).unwrap();
        assert_eq!(owners(), ["n/keep2/eth0", "n2/other/eth0"]);
        sweep::remove_stale(&mut nft, &"n".parse().unwrap(), []).unwrap();
        assert_eq!(owners(), ["n2/other/eth0"]);
        remove_tables(&mut nft);
    });
}

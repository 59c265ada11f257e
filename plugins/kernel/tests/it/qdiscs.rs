//! Shaping.

use std::time::{Duration, Instant};

use kernel::{
    address::{self, Dad},
    announce, link,
    mac::MacAddr,
    qdisc::{
        self, TokenBucket,
        split::{self, HeldBack, Peer, Split},
    },
};

use crate::lab;

#[test]
fn shapes_both_directions() {
    lab::run(|nl| {
        let (a, b) = lab::pair(nl, "a", "b");
        let ifb = link::create(nl, link::add(link::new("ifb7").up(), "ifb"), "ifb7").unwrap().dev();
        let bucket = TokenBucket::with_latency(1_000_000, 100_000, Duration::from_millis(25));
        assert_eq!(bucket.limit, 125_000);
        for bucket in [bucket, TokenBucket { rate: 12_500_000_000, burst: 1_000_000, limit: 2_000_000 }] {
            nl.batch(&[qdisc::replace_bucket(&a, &bucket), qdisc::replace_bucket(&ifb, &bucket)]).unwrap();
            for dev in [&a, &ifb] {
                let listed = qdisc::list(nl, dev).unwrap();
                assert_eq!((listed.len(), listed[0].kind.as_str()), (1, "tbf"));
                let found = listed[0].bucket.unwrap();
                assert_eq!((found.rate, found.limit), (bucket.rate, bucket.limit));
                // One tick of 64 ns is 800 bytes at 100 Gbit/s.
                assert!(found.burst <= bucket.burst && bucket.burst - found.burst <= 800, "{found:?}");
            }
        }
        nl.batch(&qdisc::redirect_received(&a, &ifb)).unwrap();
        assert!(qdisc::list(nl, &a).unwrap().iter().any(|qdisc| qdisc.kind == "ingress"));
        // What `b` sends, such as whose an address is, goes through the ifb.
        let address: ipnetwork::IpNetwork = "10.0.0.7/32".parse().unwrap();
        nl.batch(&[qdisc::replace_bucket(&ifb, &bucket), address::add(&b, address, Dad::Skip)]).unwrap();
        nl.execute(link::change(&b).arp_notify().request()).unwrap();
        let before = received("ifb7");
        nl.execute(announce::now(&b, MacAddr([2, 0, 0, 0, 0, 7]))).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while received("ifb7") == before {
            assert!(Instant::now() < deadline, "the announcement was lost");
            std::thread::yield_now();
        }

        nl.batch(&[qdisc::remove_ingress(&a), qdisc::remove_bucket(&a)]).unwrap();
        nl.batch(&[qdisc::remove_ingress(&a), qdisc::remove_bucket(&a)]).unwrap();
        assert_eq!(qdisc::list(nl, &a).unwrap()[0].kind, "noqueue");
    });
}

#[test]
fn holds_back_some_peers() {
    lab::run(|nl| {
        let (a, _) = lab::pair(nl, "a", "b");
        let subnets = ["0.0.0.0/0", "10.0.0.0/9", "192.0.2.7/32", "fd00:db8:abcd:1234:e000::/68", "::/0"];
        let mut split = Split {
            bucket: TokenBucket { rate: 1_000_000, burst: 100_000, limit: 200_000 },
            peer: Peer::Source,
            held_back: HeldBack::Subnets,
            subnets: subnets.map(|subnet| subnet.parse().unwrap()).into(),
        };
        assert_eq!(split::difference(nl, &a, &split).unwrap().as_deref(), Some("is not limited"));
        for (peer, held_back, rate) in [
            (Peer::Source, HeldBack::Others, 1_000_000),
            (Peer::Destination, HeldBack::Others, 12_500_000_000),
            (Peer::Destination, HeldBack::Subnets, 8000),
        ] {
            split = Split { peer, held_back, ..split };
            split.bucket.rate = rate;
            nl.batch(&split::replace(&a, &split)).unwrap();
            assert_eq!(split::difference(nl, &a, &split).unwrap(), None);
        }
        let mut others = [(); 5].map(|()| split.clone());
        others[0].bucket.rate = 2;
        others[1].held_back = HeldBack::Others;
        others[2].peer = Peer::Source;
        others[3].subnets.pop();
        others[4].subnets.push("10.0.0.0/10".parse().unwrap());
        let found = others.map(|other| split::difference(nl, &a, &other).unwrap().unwrap());
        let expected = [
            "has rate 64000 and burst 800000",
            "limits other subnets",
            "does not tell 0.0.0.0/0 apart",
            "tells more subnets apart",
            "does not tell 10.0.0.0/10 apart",
        ];
        assert_eq!(found, expected);
        nl.execute(qdisc::remove_bucket(&a)).unwrap();
        assert_eq!(qdisc::list(nl, &a).unwrap()[0].kind, "noqueue");
    });
}

/// Packets that a link of this thread's namespace received.
fn received(link: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = all.lines().find_map(|line| line.trim().strip_prefix(&format!("{link}:")));
    line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

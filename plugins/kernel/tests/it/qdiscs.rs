//! Shaping.

use std::time::{Duration, Instant};

use kernel::{
    address::{self, Dad},
    announce, link,
    mac::MacAddr,
    qdisc::{self, TokenBucket},
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
        announce::switch_on(&b, &[kernel::route::Family::V4]).unwrap();
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

/// Packets that a link of this thread's namespace received.
fn received(link: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = all.lines().find_map(|line| line.trim().strip_prefix(&format!("{link}:")));
    line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

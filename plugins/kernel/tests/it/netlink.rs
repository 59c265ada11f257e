//! The socket itself: batches, their errors, dumps under change.

use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use kernel::{
    address::{self, Dad},
    link::{self, Dev},
    netlink::{Netlink, Request},
    route::{self, Family, Filter, Route},
};

use crate::lab;

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

#[test]
fn goes_on_past_a_failure_and_reports_the_first() {
    lab::run(|nl| {
        let (a, _b) = lab::pair(nl, "a", "b");
        let add = |text| address::add(&a, network(text), Dad::Skip);
        nl.execute(add("10.0.0.1/24")).unwrap();
        let nobody = Dev { index: 9999.into(), name: "nobody".into() };
        let batch = [
            add("10.0.1.1/24"),
            add("10.0.0.1/24").ok_if_exists(),
            add("10.0.0.1/24"),
            address::remove(&a, network("10.0.9.1/24")),
            link::change(&nobody).up().request(),
            add("10.0.2.1/24"),
        ];
        let answers = nl.ask(&batch).unwrap();
        let failed: Vec<usize> = answers.failures.iter().map(|(index, _)| *index).collect();
        assert_eq!(failed, [2, 4]);
        assert_eq!(address::list(nl, &a).unwrap().iter().filter(|a| a.network.is_ipv4()).count(), 3);

        let err = nl.batch(&batch[2..]).unwrap_err();
        assert_eq!(err.act(), "add address 10.0.0.1/24 to a");
        nl.batch(&[]).unwrap();
    });
}

#[test]
fn sends_more_than_fits_one_datagram() {
    lab::run(|nl| {
        let (a, _b) = lab::pair(nl, "a", "b");
        let routes: Vec<Route> = (0..3000_u32)
            .map(|i| Route {
                dev: Some(a.index),
                ..Route::to(network(&format!("20.{}.{}.0/24", i / 256, i % 256)))
            })
            .collect();
        let all: Vec<Request> = routes.iter().map(route::add).collect();
        nl.batch(&all).unwrap();
        // Every one fails now, which is the most that can come back.
        assert_eq!(nl.ask(&all).unwrap().failures.len(), routes.len());
        nl.batch(&all.into_iter().map(Request::ok_if_exists).collect::<Vec<_>>()).unwrap();
        let filter = Filter { dev: Some(a.index), table: Some(254), ..Filter::default() };
        assert_eq!(route::list(nl, Family::V4, filter).unwrap(), routes);
        nl.batch(&routes.iter().map(route::remove).collect::<Vec<_>>()).unwrap();
        assert_eq!(route::list(nl, Family::V4, filter).unwrap(), []);
    });
}

#[test]
fn lists_while_others_change() {
    lab::run(|nl| {
        let (a, _b) = lab::pair(nl, "a", "b");
        let addresses: Vec<_> = (0..200).map(|i| network(&format!("10.0.{i}.1/32"))).collect();
        let add = |i: &IpNetwork| address::add(&a, *i, Dad::Skip);
        nl.batch(&addresses.iter().map(add).collect::<Vec<_>>()).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        let here = kernel::netns::Netns::current().unwrap();
        std::thread::scope(|scope| {
            let mut other = Netlink::open_in(&here).unwrap();
            let (a, done) = (&a, &done);
            scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    other.execute(address::add(a, network("10.1.0.1/32"), Dad::Skip)).unwrap();
                    other.execute(address::remove(a, network("10.1.0.1/32"))).unwrap();
                }
            });
            let mut complete = 0;
            let deadline = Instant::now() + Duration::from_secs(20);
            while complete < 50 && Instant::now() < deadline {
                match address::list(nl, a) {
                    Ok(list) => {
                        assert!(addresses.iter().all(|n| list.iter().any(|found| found.network == *n)));
                        complete += 1;
                    }
                    Err(err) => assert_eq!(err.raw_os_error(), Some(nix::libc::EAGAIN), "{err}"),
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(complete, 50);
        });
    });
}

#[test]
fn hears_events() {
    lab::run(|nl| {
        let (a, _b) = lab::pair(nl, "a", "b");
        let mut ears = Netlink::open().unwrap();
        ears.subscribe(5).unwrap(); // RTNLGRP_IPV4_IFADDR
        assert_eq!(ears.event(Instant::now()).unwrap(), []);
        nl.execute(address::add(&a, network("10.0.0.1/24"), Dad::Skip)).unwrap();
        let news = ears.event(Instant::now() + Duration::from_secs(5)).unwrap();
        assert_eq!(news.len(), 1);
        // What is queued does not get in the way of a request.
        nl.execute(address::remove(&a, network("10.0.0.1/24"))).unwrap();
        assert_eq!(link::by_name(&mut ears, "a").unwrap().index, a.index);
    });
}

#[test]
fn recovers_from_more_events_than_fit() {
    lab::run(|nl| {
        let (a, b) = lab::pair(nl, "a", "b");
        let mut ears = Netlink::open().unwrap();
        ears.subscribe(1).unwrap(); // RTNLGRP_LINK
        let batch = [10, 20].map(|length| link::change(&a).txqlen(length).request());
        for _ in 0..2000 {
            nl.batch(&batch).unwrap();
        }
        let err = ears.event(Instant::now() + Duration::from_secs(5)).unwrap_err();
        assert!(err.is_overrun(), "{err}");
        assert_eq!(link::by_index(&mut ears, a.index).unwrap().txqlen, 20);

        nl.execute(link::change(&b).down().request()).unwrap();
        let err = link::wait_running(&mut ears, &a, Duration::from_millis(20)).unwrap_err();
        assert!(err.is_timeout(), "{err}");
        nl.execute(link::change(&b).up().request()).unwrap();
        assert!(link::wait_running(&mut ears, &a, Duration::from_secs(5)).unwrap().is_running());
    });
}

//! Watches one node for dropped packets, whoever's they are. Judges none of them.

use std::{
    collections::BTreeMap,
    io::{self, PipeReader},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    agent::{place::Place, protocol::Event},
    bpf::{
        btf::Btf,
        explain::Explainer,
        skb::Tracepoint,
        tap::{self, Filter, Tap},
    },
    trace::observe::{missed, seen},
};

/// An open watch.
pub struct Watch {
    tap: Tap,
    places: BTreeMap<u32, Place>,
    /// Lists the node's namespaces anew; none when the user has named them.
    list: Option<List>,
    explainer: Explainer,
}

/// Lists all namespaces of the node.
pub type List = Box<dyn Fn() -> Vec<Place> + Send>;

impl Watch {
    /// Of the `named` namespaces, else of all that `list` has, now and later. Needs BPF.
    pub fn open(named: Option<Vec<Place>>, list: List) -> Result<Self, tap::Error> {
        let (places, list) = match named {
            Some(places) => (places, None),
            None => (list(), Some(list)),
        };
        let inodes = places.iter().map(|place| place.inode).collect();
        let btf = Btf::vmlinux()?;
        let tap = Tap::open(&btf, &[Tracepoint::Drop], &Filter { namespaces: Some(inodes), mark: None })?;
        let places = places.into_iter().map(|place| (place.inode, place)).collect();
        Ok(Self { tap, places, list, explainer: Explainer::new(&btf) })
    }

    /// Reports until `stop` is closed.
    pub fn run(mut self, stop: &PipeReader, emit: &dyn Fn(Event)) -> io::Result<()> {
        let (mut listed, mut lost) = (Instant::now(), 0);
        loop {
            let stopped = {
                let mut fds = [
                    PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.tap.as_fd(), PollFlags::POLLIN),
                ];
                let timeout = PollTimeout::try_from(LIST_AGAIN).unwrap_or(PollTimeout::MAX);
                match poll(&mut fds, timeout) {
                    Err(nix::errno::Errno::EINTR) => continue,
                    polled => polled?,
                };
                fds[0].any().unwrap_or(true)
            };
            let Self { tap, places, explainer, .. } = &mut self;
            tap.drain(|sighting| {
                if sighting.lost > lost {
                    lost = sighting.lost;
                    emit(missed(lost));
                }
                if let Some(place) = places.get(&sighting.netns)
                    && let Some(seen) = seen(&sighting, &place.name, explainer)
                {
                    emit(Event::Seen(seen));
                }
            });
            if stopped {
                return Ok(());
            }
            if listed.elapsed() >= LIST_AGAIN {
                listed = Instant::now();
                self.list_again()?;
            }
        }
    }

    /// Takes in namespaces that are new. Those that are gone have no packets.
    fn list_again(&mut self) -> io::Result<()> {
        let Some(list) = &self.list else { return Ok(()) };
        let new: Vec<_> =
            list().into_iter().filter(|place| !self.places.contains_key(&place.inode)).collect();
        let inodes: Vec<_> = new.iter().map(|place| place.inode).collect();
        self.tap.add_namespaces(&inodes).map_err(io::Error::other)?;
        self.places.extend(new.into_iter().map(|place| (place.inode, place)));
        Ok(())
    }
}

const LIST_AGAIN: Duration = Duration::from_secs(3);

//! A network namespace as the kernel shows it: links, addresses, routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    num::NonZero,
    panic,
    path::{Path, PathBuf},
    thread,
};

use ipnetwork::IpNetwork;
use kernel::{
    address::{self, Address},
    link::{self, Link, LinkIndex},
    neighbour::{self, Neighbour},
    netlink::Netlink,
    netns::Netns,
    route::{self, Family, Filter, Route, TABLE_MAIN},
};

use super::{ByPath, order::Natural};
use crate::agent::place::Place;

/// A namespace at one moment.
#[derive(Debug)]
pub struct Space {
    pub place: Place,
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    /// Of the main table.
    pub routes: Vec<Route>,
    /// Which MAC address an IP address has, where that is known.
    pub neighbours: Vec<Neighbour>,
    /// Positions among the links: a host has as many as it has containers.
    by_index: BTreeMap<LinkIndex, usize>,
}

impl Space {
    /// Asks the kernel.
    pub fn look(place: Place) -> anyhow::Result<Self> {
        let netns = Netns::open(&place.path)?;
        let mut netlink = Netlink::open_in(&netns)?;
        let main = Filter { table: Some(TABLE_MAIN), ..Filter::default() };
        let links = link::list(&mut netlink)?;
        let addresses = address::list_all(&mut netlink)?;
        let mut routes = route::list(&mut netlink, Family::V4, main)?;
        routes.extend(route::list(&mut netlink, Family::V6, main)?);
        let neighbours = neighbour::list(&mut netlink, None)?;
        let by_index = links.iter().enumerate().map(|(nth, link)| (link.index, nth)).collect();
        Ok(Self { place, links, addresses, routes, neighbours, by_index })
    }

    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    pub fn link_at(&self, index: LinkIndex) -> Option<&Link> {
        self.links.get(*self.by_index.get(&index)?)
    }

    /// The addresses of a link that others can reach: IPv4 first, in numeric order.
    pub fn addresses_of(&self, link: &Link) -> Vec<IpNetwork> {
        const LINK_LOCAL: u8 = 253;
        let of = self.addresses.iter().filter(|it| it.link == link.index && it.scope < LINK_LOCAL);
        let mut found: Vec<_> = of.map(|address| address.network).collect();
        found.sort();
        found
    }

    /// Our end of a veth pair whose other end, in another namespace, is `far`.
    pub fn other_end(&self, far: &Link) -> Option<&Link> {
        let near = self.link_at(far.parent?)?;
        let pair = far.is_veth() && near.is_veth() && near.parent == Some(far.index);
        (pair && far.peer_netnsid.is_some() && near.peer_netnsid.is_some()).then_some(near)
    }
}

/// The namespaces at `paths` and those that `ip netns` and docker know, each once and by its best name, and which of them is at each
/// of `paths`. A namespace that only `ip netns` knows is of this node when a port or a link with our mark leads to it.
pub fn others(host: &Space, paths: &BTreeSet<&str>) -> (Vec<Space>, ByPath) {
    let mut places: BTreeMap<u32, Place> = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    for dir in NAMED {
        for path in entries(Path::new(dir)) {
            if let Ok(place) = Place::at(file_name(&path), &path) {
                places.entry(place.inode).or_insert(place);
            }
        }
    }
    for path in paths {
        if let Ok(place) = Place::at(name_of(Path::new(path)), Path::new(path)) {
            inodes.insert((*path).to_owned(), place.inode);
            places.entry(place.inode).or_insert(place);
        }
    }
    places.remove(&host.place.inode);
    let wanted: BTreeSet<_> = inodes.values().copied().collect();
    let looked = look_at_all(&places.into_values().collect::<Vec<_>>()).into_iter();
    let mut spaces: Vec<_> =
        looked.filter(|space| wanted.contains(&space.place.inode) || is_reached(host, space)).collect();
    spaces.sort_by_cached_key(|space| Natural::of(&space.place.name));
    let all = [host].into_iter().chain(&spaces).map(|space| space.place.inode);
    let positions: BTreeMap<u32, usize> = all.enumerate().map(|(nth, inode)| (inode, nth)).collect();
    let by_path = inodes.into_iter().filter_map(|(path, inode)| Some((path, *positions.get(&inode)?)));
    let by_path = by_path.collect();
    (spaces, by_path)
}

/// Those that are still there. The kernel answers as many at once as there are CPUs.
fn look_at_all(places: &[Place]) -> Vec<Space> {
    let look = |some: &[Place]| -> Vec<_> {
        some.iter().filter_map(|place| Space::look(place.clone()).ok()).collect()
    };
    thread::scope(|scope| {
        let parts = places.chunks(share(places.len()));
        let started: Vec<_> = parts.map(|some| scope.spawn(move || look(some))).collect();
        started
            .into_iter()
            .flat_map(|it| it.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
            .collect()
    })
}

/// How many of so many each CPU gets.
pub(super) fn share(count: usize) -> usize {
    count.div_ceil(thread::available_parallelism().map_or(1, NonZero::get)).max(1)
}

fn is_reached(host: &Space, space: &Space) -> bool {
    space.links.iter().filter_map(|link| host.other_end(link)).any(|near| {
        near.master.is_some() || near.alias.as_deref().is_some_and(|alias| alias.starts_with("tenon:"))
    })
}

/// Processes in the namespace; none where that can't be told.
pub fn processes(place: &Place) -> Vec<u32> {
    let Ok(wanted) = Netns::open(&place.path) else { return Vec::new() };
    let pids = entries(Path::new("/proc")).into_iter().filter_map(|path| file_name(&path).parse().ok());
    let inside = |pid: &u32| Netns::open(format!("/proc/{pid}/ns/net")).is_ok_and(|found| found == wanted);
    pids.filter(inside).collect()
}

/// `blue` for `/run/netns/blue`, `pid:7` for `/proc/7/ns/net`.
fn name_of(path: &Path) -> String {
    let text = path.to_string_lossy();
    let pid = text.strip_prefix("/proc/").and_then(|rest| rest.strip_suffix("/ns/net"));
    pid.map_or_else(|| file_name(path), |pid| format!("pid:{pid}"))
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// Where `ip netns` and docker keep namespaces.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

//! The network namespaces of a node: which there are, how people name them, which one has an address.
//!
//! Containers' names come through [`Containers`]; this file knows namespaces only.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use kernel::{
    address,
    link::{self, Link},
    netlink::{Netlink, Request},
    netns::Netns,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    nsid::{NsidAttribute, NsidMessage},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::protocol::{Examined, Looked};
use crate::{graph::model::Told, verb::ps::Row};

/// A network namespace of this node, by the name that people use and the path that opens it here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// `host` for the node's own; else the container's name, or the one `ip netns` has, or the inode.
    pub name: String,
    pub path: PathBuf,
    pub inode: u32,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// Of a bridge, which takes packets for other addresses than the device's.
    pub is_port: bool,
}

/// What names the containers of a node.
pub trait Containers: Send + Sync {
    /// The namespace of the container that `name` means: its name, a prefix of its id, `network/container`.
    fn find(&self, name: &str) -> anyhow::Result<Option<Place>>;

    /// The namespaces of all containers.
    fn all(&self) -> Vec<Place>;

    /// What is attached to networks here.
    fn attachments(&self) -> anyhow::Result<Vec<Row>> {
        bail!("this agent knows no attachments")
    }

    /// What a verb that only looks says of this node, called `node`.
    fn look(&self, _node: &str, _words: &[String]) -> anyhow::Result<Looked> {
        bail!("this agent knows no attachments")
    }

    /// All that is to be known of this node, without its secrets.
    fn report(&self) -> anyhow::Result<Value> {
        bail!("this agent knows no attachments")
    }

    /// What is wrong on this node by itself, and its tunnels.
    fn examine(&self) -> anyhow::Result<Examined> {
        bail!("this agent knows no attachments")
    }

    /// What a picture shows of this node.
    fn draw(&self) -> anyhow::Result<Told> {
        bail!("this agent knows no attachments")
    }
}

/// No container has a name: namespaces are found by path, process and address only.
pub struct Unnamed;

impl Containers for Unnamed {
    fn find(&self, _: &str) -> anyhow::Result<Option<Place>> {
        Ok(None)
    }

    fn all(&self) -> Vec<Place> {
        Vec::new()
    }
}

/// The name of the node's own namespace.
pub const HOST: &str = "host";

impl Place {
    /// The namespace of the calling thread; the path is good as long as the thread lives.
    pub fn own() -> anyhow::Result<Self> {
        let thread = fs::read_link("/proc/thread-self").context("read /proc/thread-self")?;
        Self::at(HOST.to_owned(), &Path::new("/proc").join(thread).join("ns/net"))
    }

    /// The namespace behind a path.
    pub fn at(name: String, path: &Path) -> anyhow::Result<Self> {
        let netns = Netns::open(path)?;
        Ok(Self { name, path: path.to_owned(), inode: inode(&netns)? })
    }

    /// Runs `work` inside. The caller's own namespace is not entered anew, which would take CAP_SYS_ADMIN.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let netns = self.open()?;
        if Netns::current()?.id() == netns.id() {
            return Ok(work());
        }
        Ok(netns.run(work)?)
    }

    fn open(&self) -> anyhow::Result<Netns> {
        Ok(Netns::open(&self.path)?)
    }

    /// Its addresses that others can reach, IPv4 first, in the order of its links.
    pub fn addresses(&self) -> anyhow::Result<Vec<IpAddr>> {
        const GLOBAL: u8 = 0;
        let mut netlink = self.run(Netlink::open)??;
        let mut all = address::list_all(&mut netlink)?;
        all.retain(|address| address.scope == GLOBAL && !address.network.ip().is_loopback());
        all.sort_by_key(|address| (address.network.is_ipv6(), u32::from(address.link)));
        Ok(all.into_iter().map(|address| address.network.ip()).collect())
    }

    /// The largest MTU of those that are up and lead out.
    pub fn devices_mtu(&self) -> anyhow::Result<u32> {
        let mut netlink = self.run(Netlink::open)??;
        let links = link::list(&mut netlink)?.into_iter().filter(|link| link.is_up() && link.name != "lo");
        links.map(|link| link.mtu).max().context("no device is up")
    }

    /// Its devices by index.
    pub fn devices(&self) -> anyhow::Result<BTreeMap<u32, Device>> {
        let mut netlink = self.run(Netlink::open)??;
        let links = link::list(&mut netlink)?;
        let device =
            |link: Link| (link.index.into(), Device { is_port: link.master.is_some(), name: link.name });
        Ok(links.into_iter().map(device).collect())
    }
}

fn inode(netns: &Netns) -> anyhow::Result<u32> {
    u32::try_from(netns.inode()).context("inode of a network namespace")
}

/// What a selector means on this node; none if it means nothing here.
///
/// `host`, `netns:PATH|NAME`, `pid:N`, a path, a container, a name of `ip netns`.
pub fn resolve(selector: &str, containers: &dyn Containers) -> anyhow::Result<Option<Place>> {
    if selector == HOST {
        return Place::own().map(Some);
    }
    if let Some(name) = selector.strip_prefix("netns:") {
        let path = if name.contains('/') { PathBuf::from(name) } else { Path::new(NAMED).join(name) };
        return existing(&path);
    }
    if let Some(pid) = selector.strip_prefix("pid:") {
        // Only digits: anything else would walk out of /proc.
        let is_number = pid.bytes().all(|byte| byte.is_ascii_digit()) && !pid.is_empty();
        return if is_number { existing(&PathBuf::from(format!("/proc/{pid}/ns/net"))) } else { Ok(None) };
    }
    if selector.starts_with('/') {
        return existing(Path::new(selector));
    }
    match containers.find(selector)? {
        Some(place) => Ok(Some(place)),
        None if selector.contains('/') => Ok(None),
        None => existing(&Path::new(NAMED).join(selector)),
    }
}

/// The namespace behind a path; none if there is none.
fn existing(path: &Path) -> anyhow::Result<Option<Place>> {
    match Netns::open(path) {
        Ok(netns) => {
            let place = Place { name: short_name(path), path: path.to_owned(), inode: inode(&netns)? };
            Ok(Some(own_is_host(place)))
        }
        Err(err) if err.is_missing() || err.is_not_netns() => Ok(None),
        Err(err) => Err(err.into()),
    }
}

fn own_is_host(place: Place) -> Place {
    match Place::own() {
        Ok(own) if own.inode == place.inode => own,
        _ => place,
    }
}

/// The namespace of this node that has `address`: its own, a container's, or one that a veth leads to.
pub fn locate(address: IpAddr, containers: &dyn Containers, foreign: &[u32]) -> Option<Place> {
    let has = |place: &Place| place.addresses().is_ok_and(|addresses| addresses.contains(&address));
    namespaces(containers, foreign).into_iter().find(has)
}

/// The node's own namespace first, then its containers', then those that its veth devices lead to; `foreign` ones
/// (other nodes on the same kernel) left out.
pub fn namespaces(containers: &dyn Containers, foreign: &[u32]) -> Vec<Place> {
    let mut all: Vec<Place> = Place::own().into_iter().collect();
    let found = containers.all().into_iter().chain(neighbours().unwrap_or_default());
    for place in found {
        if !foreign.contains(&place.inode) && all.iter().all(|known| known.inode != place.inode) {
            all.push(place);
        }
    }
    all
}

/// Namespaces that have the other end of one of our veth devices.
fn neighbours() -> anyhow::Result<Vec<Place>> {
    let mut netlink = Netlink::open()?;
    let links = link::list(&mut netlink)?;
    let numbers: Vec<i32> = links.iter().filter_map(|link| link.peer_netnsid).collect();
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for place in known_to_the_system() {
        let Ok(netns) = place.open() else { continue };
        if number_of(&mut netlink, &netns)?.is_some_and(|number| numbers.contains(&number)) {
            found.push(place);
        }
    }
    Ok(found)
}

/// By which number our namespace knows another (RTM_GETNSID); none if it does not.
pub fn number_of(netlink: &mut Netlink, netns: &Netns) -> anyhow::Result<Option<i32>> {
    let fd = u32::try_from(netns.as_fd().as_raw_fd()).context("descriptor of a namespace")?;
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(fd));
    let request =
        Request::new(RouteNetlinkMessage::GetNsId(message), 0, format!("find the number of {netns}"));
    let answers = netlink.ask(&[request])?;
    Ok(answers.replies.into_iter().find_map(|(_, reply)| match reply {
        RouteNetlinkMessage::NewNsId(message) => {
            message.attributes.into_iter().find_map(|attribute| match attribute {
                NsidAttribute::Id(id) if id >= 0 => Some(id),
                _ => None,
            })
        }
        _ => None,
    }))
}

/// Namespaces that have a name, then those that only a process holds, each once.
pub fn known_to_the_system() -> Vec<Place> {
    let mut places: BTreeMap<u32, Place> = BTreeMap::new();
    let named =
        [NAMED, "/run/docker/netns"].iter().flat_map(|dir| entries(Path::new(dir)).unwrap_or_default());
    let of_processes = entries(Path::new("/proc"))
        .unwrap_or_default()
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok()))
        .map(|path| path.join("ns/net"));
    for path in named.chain(of_processes) {
        if let Ok(place) = Place::at(short_name(&path), &path) {
            places.entry(place.inode).or_insert(place);
        }
    }
    places.into_values().collect()
}

/// `blue` for `/run/netns/blue`, `pid:7` for `/proc/7/ns/net`.
fn short_name(path: &Path) -> String {
    let text = path.to_string_lossy();
    match text.strip_prefix("/proc/").and_then(|rest| rest.strip_suffix("/ns/net")) {
        Some(pid) => format!("pid:{pid}"),
        None => path.file_name().map_or_else(|| text.to_string(), |name| name.to_string_lossy().into_owned()),
    }
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Where `ip netns` keeps namespaces.
const NAMED: &str = "/run/netns";

#[cfg(test)]
mod tests {
    use testenv::lab;

    use super::*;

    #[test]
    fn namespaces_are_found_by_name_path_and_address() {
        lab::run("places", |lab| {
            let blue = lab.netns("blue");
            let far = lab.netns("far");
            lab.host().add_veth("v0", &blue, "eth0");
            blue.add_address("eth0", "10.9.0.2/24");
            blue.set_up("eth0");
            far.add_bridge("br0");
            far.add_address("br0", "10.9.0.3/24");
            // The lab's host is the namespace of this thread only.
            lab.host().run(|| {
                let place = resolve("netns:blue", &Unnamed).unwrap().unwrap();
                assert_eq!(place.name, "blue");
                assert_eq!(resolve("/run/netns/blue", &Unnamed).unwrap().unwrap(), place);
                assert!(resolve("red", &Unnamed).unwrap().is_none());
                assert_eq!(place.addresses().unwrap(), ["10.9.0.2".parse::<IpAddr>().unwrap()]);
                assert_eq!(neighbours().unwrap(), [place]);
            });
        });
    }
}

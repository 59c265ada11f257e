//! What is on a node, gathered once for the verbs that show and judge it: configurations, libcni's cache, the plugins'
//! records, leases, and every namespace as the kernel has it. Judges nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    net::IpAddr,
    panic,
    path::PathBuf,
    thread,
};

use attach::ruleset::{plan::Rules, sweep};
use chained::firewall::state::Shared;
use ipam::owner::Owner;
use kernel::{
    conntrack::{Conntrack, Filter, Flow},
    fdb,
    link::{Link, LinkIndex},
    netlink::Netlink,
    nft::{Nft, table::Hook},
};
use nix::unistd::gethostname;

use self::{
    agents::Kept,
    attachment::{Attached, join},
    firewall::Chain,
    made::Made,
    network::Network,
    settings::Settings,
    space::Space,
    trials::Trials,
    tunnel::{Report, Tunnel},
};
use crate::{
    agent::place::Place,
    cache::Cache,
    conf::{Directory, Error as ConfError},
    paths::Paths,
    repair,
};

pub mod agents;
pub mod attachment;
pub mod container;
pub mod engines;
pub mod firewall;
pub mod made;
pub mod network;
pub mod order;
pub mod settings;
pub mod space;
mod supposed;
pub mod trials;
pub mod tunnel;

/// A node at one moment.
#[derive(Debug)]
pub struct Facts {
    pub node: String,
    /// In the directory's order.
    pub networks: Vec<Network>,
    pub broken: Vec<ConfError>,
    /// By network, container in natural order, and interface.
    pub attachments: Vec<Attached>,
    /// The host's namespace first, then others by name.
    pub spaces: Vec<Space>,
    /// The comments of the elements in the suite's tables; `None` where they could not be read.
    pub owners: Option<BTreeSet<String>>,
    /// What networks have in the host's tables for all of their attachments, and what is missing of it.
    pub shared: Vec<(Shared, Vec<String>)>,
    pub settings: Settings,
    /// The chains that packets between interfaces pass.
    pub forward: Vec<Chain>,
    /// Those for this host itself.
    pub input: Vec<Chain>,
    pub output: Vec<Chain>,
    /// Tracked UDP.
    pub flows: Vec<Flow>,
    /// Of the host's bridges and tunnels.
    pub forwarding: Vec<fdb::Entry>,
    /// Networks of many hosts.
    pub kept: Vec<Kept>,
    /// This node's tunnels, then those of nodes that were asked.
    pub reports: Vec<Report>,
    /// Empty unless [`Facts::try_out`] was called.
    pub trials: Trials,
    /// Where plugins are looked for.
    pub plugins: Vec<PathBuf>,
    /// What could not be looked at, and why.
    pub blind: Vec<String>,
}

impl Facts {
    /// Looks at everything. What can't be read is noted in [`Self::blind`].
    pub fn gather(node: Option<&str>, paths: &Paths) -> anyhow::Result<Self> {
        let mut blind = Vec::new();
        let directory = told(&mut blind, &paths.conf_dir.display(), Directory::read(&paths.conf_dir));
        let cache = Cache::new(&paths.results);
        let cached = told(&mut blind, &"result cache", cache.list());
        blind.extend(cached.unreadable.iter().map(|err| format!("result cache: {err}")));
        let made = told(&mut blind, &"attachment records", Made::all());
        let mut networks: Vec<_> =
            directory.networks.into_iter().map(|list| Network::new(list, &paths.networks)).collect();
        let kept = told(&mut blind, &"overlay", agents::all());
        networks.iter_mut().for_each(|network| agents::complete(network, &kept));

        let host = Space::look(Place::own()?)?;
        let paths_of_containers = cached.entries.iter().filter_map(|entry| entry.namespace());
        let paths_of_containers: BTreeSet<&str> =
            paths_of_containers.chain(made.iter().map(|made| made.netns.as_str())).collect();
        let (others, by_path) = space::others(&host, &paths_of_containers);
        let spaces: Vec<_> = [host].into_iter().chain(others).collect();
        let mut attachments =
            join(cached.entries, made, &spaces, &by_path, &container::names(&paths.engines));
        for attached in &mut attachments {
            attached.file = attached.entry.as_ref().map(|_| cache.file(&attached.key).display().to_string());
        }
        let sources = supposed::Sources {
            networks: &networks,
            spaces: &spaces,
            cache: &cache,
            conf_dir: &paths.conf_dir,
        };
        let shared = sources.complete(&mut attachments, &mut blind);
        told(&mut blind, &"attachment records", look_for_plans(&mut attachments));
        told(&mut blind, &"nftables", look_for_rules(&mut attachments));
        find_abandoned(&mut attachments, &spaces);
        let owners = Nft::open().and_then(|mut nft| sweep::owners(&mut nft)).map(Some);
        let reports = told(&mut blind, &"tunnels", Tunnel::all(&spaces[0]));
        let node = node.map_or_else(host_name, str::to_owned);
        Ok(Self {
            reports: vec![Report { node: node.clone(), tunnels: reports, ..Report::default() }],
            node,
            networks,
            broken: directory.broken,
            attachments,
            owners: told(&mut blind, &"nftables", owners),
            shared: told(&mut blind, &"nftables", look_for_shared(shared)),
            settings: Settings::read(&spaces[0].links),
            forward: told(&mut blind, &"nftables", Chain::all(Hook::Forward)),
            input: told(&mut blind, &"nftables", Chain::all(Hook::Input)),
            output: told(&mut blind, &"nftables", Chain::all(Hook::Output)),
            flows: told(&mut blind, &"connections", datagrams()),
            forwarding: told(
                &mut blind,
                &"forwarding tables",
                Netlink::open().and_then(|mut it| fdb::list_all(&mut it)),
            ),
            kept,
            spaces,
            trials: Trials::default(),
            plugins: paths.plugins.clone(),
            blind,
        })
    }

    /// Sends what only shows when it is tried.
    pub fn try_out(&mut self) {
        self.trials = Trials::new(self);
        self.blind.append(&mut self.trials.blind);
        let (trials, bad_checksums) = trials::tunnels(&self.spaces[0].place, &self.reports[0].tunnels);
        self.reports[0] = Report { trials, bad_checksums, ..self.reports[0].clone() };
    }

    /// The node's own namespace.
    pub fn host(&self) -> &Space {
        &self.spaces[0]
    }

    /// The first network of that name, which is the one that runtimes use.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.list.name.as_str() == name)
    }

    pub fn attached_to<'a>(&'a self, network: &'a Network) -> impl Iterator<Item = &'a Attached> {
        self.attachments.iter().filter(|attached| attached.key.network == network.list.name)
    }

    /// The namespace of an attachment, if it lives.
    pub fn space(&self, attached: &Attached) -> Option<&Space> {
        self.spaces.get(attached.space?)
    }

    /// The attachment's interface in its container.
    pub fn interface(&self, attached: &Attached) -> Option<&Link> {
        self.space(attached)?.link(attached.key.ifname.as_str())
    }

    /// The host's end of the attachment's veth pair.
    pub fn host_link(&self, attached: &Attached) -> Option<&Link> {
        self.interface(attached).and_then(|inside| self.host().other_end(inside))
    }

    /// The host's links that have the other end in a container, without an attachment that knows of them, with the namespace that
    /// has the other end where that is known.
    pub fn orphans(&self) -> Vec<(&Link, Option<(&Space, &Link)>)> {
        let known: BTreeSet<_> = self
            .attachments
            .iter()
            .filter_map(|attached| self.host_link(attached))
            .map(|link| link.index)
            .collect();
        let bridges = self.bridges_of_networks();
        let suspicious = |link: &&Link| {
            let port = link.master.is_some_and(|master| bridges.contains(&master));
            let ours = link.alias.as_deref().is_some_and(|alias| alias.starts_with("tenon:"));
            link.is_veth() && (port || ours) && !known.contains(&link.index)
        };
        let far = self.far_ends();
        let links = self.host().links.iter().filter(suspicious);
        links.map(|link| (link, far.get(&link.index).copied())).collect()
    }

    /// Leases that no attachment accounts for and no interface has, with whose they are said to be. One that is new may be of an ADD
    /// that is under way, which has its lease first.
    pub fn leaked(&self, network: &Network) -> Vec<(IpAddr, String)> {
        let spaces = self.spaces.iter().skip(1).flat_map(|space| &space.addresses);
        let had: BTreeSet<IpAddr> = spaces.map(|it| it.network.ip()).collect();
        let keys = self.attached_to(network).map(|it| (it.key.container.as_str(), it.key.ifname.as_str()));
        let keys: BTreeSet<_> = keys.collect();
        let is_known = |owner: &Owner| match owner.ifname() {
            Some(ifname) => keys.contains(&(owner.container(), ifname)),
            None => keys.range((owner.container(), "")..).next().is_some_and(|it| it.0 == owner.container()),
        };
        let leaked = network.leases.iter().filter(|(address, owner)| {
            !owner.as_ref().is_some_and(is_known) && !had.contains(address) && !network.new.contains(address)
        });
        let named = leaked.map(|(address, owner)| {
            let owner = owner.as_ref().map(|it| format!("{} {}", it.container(), it.ifname().unwrap_or("")));
            (*address, owner.map_or_else(|| "nobody".to_owned(), |owner| owner.trim_end().to_owned()))
        });
        named.collect()
    }

    /// Owners of elements in the suite's tables that are no attachment here.
    pub fn strangers(&self) -> Vec<String> {
        let known: BTreeSet<_> = self.attachments.iter().map(|it| repair::comment(&it.key)).collect();
        self.owners.iter().flatten().filter(|owner| !known.contains(*owner)).cloned().collect()
    }

    /// What is at the other end of each of the host's links that lead to a container.
    fn far_ends(&self) -> BTreeMap<LinkIndex, (&Space, &Link)> {
        let inside =
            self.spaces.iter().skip(1).flat_map(|space| space.links.iter().map(move |it| (space, it)));
        inside.filter_map(|(space, it)| Some((self.host().other_end(it)?.index, (space, it)))).collect()
    }

    fn bridges_of_networks(&self) -> BTreeSet<LinkIndex> {
        let configured = self.networks.iter().filter_map(|network| network.bridge.as_deref());
        let noted = self.attachments.iter().filter_map(|it| it.made.as_ref()?.bridge.as_deref());
        let names: BTreeSet<_> = configured.chain(noted).collect();
        names.into_iter().filter_map(|name| self.host().link(name)).map(|link| link.index).collect()
    }
}

/// The value, or a note of why there is none.
fn told<T: Default, E: Display>(blind: &mut Vec<String>, what: &dyn Display, result: Result<T, E>) -> T {
    result.unwrap_or_else(|err| {
        blind.push(format!("{what}: {err}"));
        T::default()
    })
}

fn datagrams() -> kernel::error::Result<Vec<Flow>> {
    const UDP: u8 = 17;
    Conntrack::open()?.list(&Filter { protocol: Some(UDP), ..Filter::default() })
}

/// What portmap and firewall have for each attachment.
fn look_for_plans(attachments: &mut [Attached]) -> Result<(), attach::record::Error> {
    let by_key: BTreeMap<_, _> =
        attachments.iter().enumerate().map(|(nth, it)| (it.key.clone(), nth)).collect();
    for (key, plan) in chained::portmap::rulesets()?.into_iter().chain(chained::firewall::rulesets()?) {
        if let Some(&nth) = by_key.get(&key) {
            attachments[nth].chained.push(plan);
        }
    }
    Ok(())
}

fn find_abandoned(attachments: &mut [Attached], spaces: &[Space]) {
    let links: BTreeSet<_> = spaces[0].links.iter().map(|link| link.name.as_str()).collect();
    for attached in attachments {
        attached.abandoned = attached.is_abandoned(spaces, &links);
    }
}

/// What each attachment lacks in the suite's tables: a share of them for each CPU.
fn look_for_rules(attachments: &mut [Attached]) -> kernel::error::Result<()> {
    let share = space::share(attachments.len());
    thread::scope(|scope| {
        let parts = attachments.chunks_mut(share);
        let started: Vec<_> = parts.map(|some| scope.spawn(|| look_for_rules_of(some))).collect();
        started.into_iter().try_for_each(|it| it.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
    })
}

fn look_for_rules_of(attachments: &mut [Attached]) -> kernel::error::Result<()> {
    let (mut nft, mut rules) = (Nft::open()?, Rules::default());
    for attached in attachments {
        if let Some(made) = &attached.made {
            attached.unruled = made.ruleset.missing_from(&mut nft, &mut rules)?;
        }
        for plan in &attached.chained {
            attached.unpublished.extend(plan.missing_from(&mut nft, &mut rules)?);
        }
    }
    Ok(())
}

/// Of the networks with a record, and of those that are `supposed` to have one.
fn look_for_shared(supposed: Vec<Shared>) -> anyhow::Result<Vec<(Shared, Vec<String>)>> {
    let mut nft = Nft::open()?;
    let mut all = chained::firewall::shared()?;
    for shared in supposed {
        if !all.contains(&shared) {
            all.push(shared);
        }
    }
    let looked = all.into_iter().map(|shared| shared.missing(&mut nft).map(|missing| (shared, missing)));
    Ok(looked.collect::<Result<_, _>>()?)
}

/// Namespaces by the path that state files name them with.
pub type ByPath = BTreeMap<String, usize>;

fn host_name() -> String {
    gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

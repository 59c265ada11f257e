//! `netctl ipam`: host-local's books against the containers that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use clap::{Args, Subcommand};
use serde_json::json;

use self::named::Named;
use super::network::{self, find};
use crate::{
    commands,
    doctor::mend::apply::release,
    exit::{Exit, Failure},
    facts::{
        Facts,
        network::{Network, capacity},
    },
    output::{Reply, Table},
    repair::{self, Plan},
    verb::{Context, look::Sight},
};

mod named;

/// Shows which addresses are leased and to whom, and gives leaked ones back.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netctl ipam show")]
pub struct Ipam {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show how full each range is
    #[command(after_help = "Example:\n  netctl ipam show mynet")]
    Show { networks: Vec<String> },
    /// List every lease with its holder, and whether that lives; exit status 1 if one does not
    #[command(after_help = "Example:\n  netctl ipam check mynet -o json")]
    Check { networks: Vec<String> },
    /// Give back what no attachment accounts for, addresses and rules; only says what, without --yes
    #[command(after_help = GC_HELP)]
    Gc {
        networks: Vec<String>,
        /// Only what this file calls leaked and still is: JSON of `ipam check` or `report`
        #[arg(long, value_name = "FILE")]
        from_report: Option<PathBuf>,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
    /// Give these addresses back, whoever holds them; only says what, without --yes
    #[command(after_help = "Example:\n  netctl ipam release mynet 10.9.0.50 --yes")]
    Release {
        network: String,
        #[arg(required = true)]
        addresses: Vec<IpAddr>,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

impl Ipam {
    pub fn is_look(&self) -> bool {
        matches!(self.verb, Verb::Show { .. } | Verb::Check { .. })
    }
}

/// What is leased; nothing of the verbs that give back.
pub fn look(ipam: &Ipam, facts: &Facts, context: &Context) -> Option<Result<Sight, Failure>> {
    let (Verb::Show { networks } | Verb::Check { networks }) = &ipam.verb else { return None };
    let (networks, unknown) = match &networks[..] {
        [] => (leasing(facts), BTreeMap::new()),
        named => network::chosen(facts, named),
    };
    context.show_commands(|| networks.iter().filter_map(|it| commands::facts::leases(it)).collect());
    let (reply, exit) = match &ipam.verb {
        Verb::Show { .. } => (show(facts, &networks), Exit::Fine),
        _ => {
            let leases = leases(facts, &networks);
            let is_leaked = leases.iter().any(|lease| lease.state == LEAKED);
            (listed("Leases", &leases), if is_leaked { Exit::Finding } else { Exit::Fine })
        }
    };
    Some(Ok(Sight { reply, exit, unknown }))
}

pub fn run(ipam: &Ipam, context: &Context) -> Result<Exit, Failure> {
    let facts = context.facts()?;
    match &ipam.verb {
        Verb::Show { .. } | Verb::Check { .. } => Err(Failure::Usage("this only looks".to_owned())),
        Verb::Gc { networks, from_report, yes } => {
            let mut leases = leases(&facts, &chosen(&facts, networks)?);
            let leftovers = match from_report {
                Some(file) => {
                    let named = named::read(file, &facts.node)?;
                    leases.retain(|lease| lease.state == LEAKED && named.contains(&Named::of(lease)));
                    let left: BTreeSet<_> = leases.iter().map(Named::of).collect();
                    let others = named.difference(&left).filter(|it| is_chosen(networks, it));
                    let why = |it: &Named| format!("{} of {} is no leak any more", it.address, it.network);
                    context.warn(&others.map(why).collect::<Vec<_>>());
                    Plan::default()
                }
                None => {
                    leases.retain(|lease| lease.state == LEAKED);
                    Plan::leftovers(&facts, |of| networks.is_empty() || networks.iter().any(|it| it == of))
                }
            };
            give_back(&facts, leases, &leftovers, *yes, context)
        }
        Verb::Release { network, addresses, yes } => {
            let mut leases = leases(&facts, &[find(&facts, network)?]);
            leases.retain(|lease| addresses.contains(&lease.address));
            give_back(&facts, leases, &Plan::default(), *yes, context)
        }
    }
}

/// Those named, or all that lease.
fn chosen<'a>(facts: &'a Facts, names: &[String]) -> Result<Vec<&'a Network>, Failure> {
    if names.is_empty() {
        return Ok(leasing(facts));
    }
    names.iter().map(|name| find(facts, name)).collect()
}

fn is_chosen(networks: &[String], named: &Named) -> bool {
    networks.is_empty() || networks.contains(&named.network)
}

fn leasing(facts: &Facts) -> Vec<&Network> {
    facts.networks.iter().filter(|network| !network.sets().is_empty()).collect()
}

/// Leases, and what attachments that ended without our plugins left: rules, records, links.
fn give_back(
    facts: &Facts,
    leases: Vec<Lease>,
    leftovers: &Plan,
    yes: bool,
    context: &Context,
) -> Result<Exit, Failure> {
    let networks: BTreeSet<_> = leases.iter().map(|lease| lease.network.clone()).collect();
    context.show_commands(|| {
        let of = |network: &Network| {
            let of = leases.iter().filter(|it| it.network == network.list.name.as_str());
            commands::facts::release(network, of.map(|it| it.address))
        };
        networks.iter().filter_map(|name| facts.network(name)).flat_map(of).collect()
    });
    let mut released = BTreeSet::new();
    for network in networks.iter().filter(|_| yes) {
        let of: Vec<_> = leases.iter().filter(|it| it.network == *network).map(|it| it.address).collect();
        released.extend(release(facts, network, &of)?.into_iter().map(|address| (network.clone(), address)));
    }
    if yes {
        repair::remove(facts, leftovers)?;
    }
    let leases: Vec<_> = leases
        .into_iter()
        .map(|lease| match (yes, released.contains(&(lease.network.clone(), lease.address))) {
            (false, _) => Lease { state: "would-release", ..lease },
            (true, true) => Lease { state: "released", ..lease },
            (true, false) => Lease { state: "gone-before", ..lease },
        })
        .collect();
    let mut reply = listed("Released", &leases);
    list_leftovers(&mut reply, leftovers, if yes { "removed" } else { "would-remove" });
    context.write(&reply)?;
    Ok(Exit::Fine)
}

/// Without an address: that may be somebody else's by now.
fn list_leftovers(reply: &mut Reply, leftovers: &Plan, state: &str) {
    let Plan { forget, sweep, .. } = leftovers;
    for owner in forget.iter().map(ToString::to_string).chain(sweep.iter().cloned()) {
        let mut parts = owner.splitn(3, '/').map(str::to_owned);
        let (network, container, ifname) = (parts.next(), parts.next(), parts.next());
        reply.items.push(json!({
            "network": network, "address": null, "container": container, "ifname": ifname, "state": state,
        }));
        let cells = [network, Some("rules".to_owned()), container, ifname, Some(state.to_owned())];
        reply.table.rows.push(cells.map(Option::unwrap_or_default).to_vec());
        reply.names.push(owner);
    }
}

/// Every lease of every network with its holder and whether that lives, as `ipam check` lists them.
pub fn check(facts: &Facts) -> Reply {
    listed("Leases", &leases(facts, &leasing(facts)))
}

/// A lease and what is known of its holder.
#[derive(Clone)]
struct Lease {
    network: String,
    address: IpAddr,
    container: Option<String>,
    ifname: Option<String>,
    state: &'static str,
}

fn leases(facts: &Facts, networks: &[&Network]) -> Vec<Lease> {
    let mut all = Vec::new();
    for network in networks {
        let leaked: BTreeSet<_> = facts.leaked(network).into_iter().map(|(address, _)| address).collect();
        for (address, owner) in &network.leases {
            let holder = facts.attached_to(network).find(|it| {
                owner.as_ref().is_some_and(|owner| it.key.container.as_str() == owner.container())
            });
            let state = match holder {
                _ if leaked.contains(address) => LEAKED,
                Some(holder) if holder.gone.is_some() => "stale",
                Some(_) => "live",
                None => "unrecorded",
            };
            all.push(Lease {
                network: network.list.name.to_string(),
                address: *address,
                container: owner.as_ref().map(|owner| owner.container().to_owned()),
                ifname: owner.as_ref().and_then(|owner| owner.ifname().map(str::to_owned)),
                state,
            });
        }
    }
    all
}

fn listed(kind: &'static str, leases: &[Lease]) -> Reply {
    let item = |lease: &Lease| {
        let Lease { network, address, container, ifname, state } = lease;
        let address = address.to_string();
        json!({"network": network, "address": address, "container": container, "ifname": ifname, "state": state})
    };
    let cells = |lease: &Lease| {
        let Lease { network, address, container, ifname, state } = lease;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![network.clone(), address.to_string(), text(container), text(ifname), (*state).to_owned()]
    };
    Reply {
        kind,
        items: leases.iter().map(item).collect(),
        names: leases.iter().map(|lease| lease.address.to_string()).collect(),
        table: Table {
            columns: &["NETWORK", "ADDRESS", "CONTAINER", "IF", "STATE"],
            wide: &[],
            rows: leases.iter().map(cells).collect(),
        },
    }
}

fn show(facts: &Facts, networks: &[&Network]) -> Reply {
    let (mut items, mut names, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for network in networks {
        let leases = leases(facts, &[*network]);
        for set in network.sets() {
            let of: Vec<_> = leases.iter().filter(|lease| set.range_of(lease.address).is_some()).collect();
            let count = |state: &str| of.iter().filter(|lease| lease.state == state).count();
            let used = u64::try_from(of.len()).unwrap_or(u64::MAX);
            let free = capacity(std::slice::from_ref(set)).saturating_sub(used);
            let (live, leaked) = (count("live"), count(LEAKED));
            let (stale, unrecorded) = (count("stale"), count("unrecorded"));
            let name = network.list.name.to_string();
            items.push(json!({
                "network": name, "range": set.to_string(), "used": used, "live": live, "stale": stale,
                "leaked": leaked, "unrecorded": unrecorded, "free": free,
            }));
            let numbers = [used, free].map(|it| it.to_string());
            let [used, free] = numbers;
            let [live, stale, leaked, unrecorded] =
                [live, stale, leaked, unrecorded].map(|it| it.to_string());
            rows.push(vec![name.clone(), set.to_string(), used, live, stale, leaked, unrecorded, free]);
            names.push(name);
        }
    }
    let columns = &["NETWORK", "RANGE", "USED", "LIVE", "STALE", "LEAKED", "UNRECORDED", "FREE"];
    Reply { kind: "Ranges", items, names, table: Table { columns, wide: &[], rows } }
}

const LEAKED: &str = "leaked";

const GC_HELP: &str = "\
Examples:
  netctl ipam gc mynet --yes
  netctl ipam check -o json > leases.json
  netctl ipam gc --from-report leases.json --yes";

//! What is in the tables: every set, chain and rule, feature by feature. `tests/ruleset.rs` holds how `nft` prints it.

use std::borrow::Cow;

use kernel::nft::{
    batch::Batch,
    rule::{Field, Part, Rule, Verdict},
    table::{Chain, ChainKind, Family, Hook, Set, Table},
    value::Type,
};

use super::{
    condition::{Condition, suffix},
    guard, publish,
};

/// What packets see.
pub(super) const INET: Table<'static> = Table { family: Family::Inet, name: "tenon" };
/// What frames on bridges see.
pub(super) const BRIDGE: Table<'static> = Table { family: Family::Bridge, name: "tenon" };

/// Runs for the first packet of every connection. The priority is nft's `srcnat`.
pub(super) const MASQUERADING: Chain<'static> =
    INET.base_chain("masquerading", ChainKind::Nat, Hook::Postrouting, 100);
/// Runs for every frame that a bridge port receives, before anything else of ours. The priority is nft's `dstnat` of the
/// bridge family, which the reference plugins use too.
pub(super) const SPOOFING: Chain<'static> =
    BRIDGE.base_chain("spoofing", ChainKind::Filter, Hook::Prerouting, -300);

/// A part of the tables that is made as a whole. In the order in which they need each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    /// Whose addresses are.
    Owner,
    /// Connections of the containers leave with the host's address.
    Masquerade,
    /// They keep their own towards networks with a prefix of this length: one set and one rule for each length in use,
    /// so that a hash can tell whether an address is in a network.
    Exempt(Ip, u8),
    /// Frames of a container carry its own address.
    SpoofCheck,
    /// Ports of the host lead to containers.
    Publish,
    /// So do those that are published under these conditions.
    Ports(Ip, Vec<Condition>),
    /// Neighbours of a container, in a network with a prefix of this length, reach it by the host's ports.
    Hairpin(Ip, u8),
    /// The host itself does by 127.0.0.1.
    FromLocalhost,
    /// Connections by the host's ports come to the container from the host's address.
    PortMasquerade(Ip),
    /// What is forwarded is looked at, the user's chain first; internal networks.
    Forward,
    /// Containers are reached by some interfaces only.
    Guard(Ip),
    /// Ports of a bridge don't see each other.
    KeepApart,
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ip {
    V4,
    V6,
}

/// A set or map of ours: [`Set`] with a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    table: Table<'static>,
    name: Cow<'static, str>,
    key: &'static [Type],
    data: &'static [Type],
}

impl Feature {
    /// All there is to it. Fails with EEXIST, and does nothing, when somebody else has made it in the meantime.
    pub(super) fn schema(&self) -> Batch {
        let mut batch = Batch::new();
        match self {
            Self::Masquerade => masquerade(&mut batch),
            Self::Exempt(ip, prefix) => exempt(&mut batch, *ip, *prefix),
            Self::SpoofCheck => spoof_check(&mut batch),
            Self::Publish => publish::publish(&mut batch),
            Self::Ports(ip, conditions) => publish::ports(&mut batch, *ip, conditions),
            Self::Hairpin(ip, prefix) => publish::hairpin(&mut batch, *ip, *prefix),
            Self::FromLocalhost => publish::from_localhost(&mut batch),
            Self::PortMasquerade(ip) => publish::port_masquerade(&mut batch, *ip),
            Self::Owner => owner(&mut batch),
            Self::Forward => guard::forward(&mut batch),
            Self::Guard(ip) => guard::guard(&mut batch, *ip),
            Self::KeepApart => guard::keep_apart(&mut batch),
        }
        batch
    }

    /// The chain that has its rules.
    pub(super) fn chain(&self) -> Chain<'static> {
        match self {
            Self::Masquerade | Self::Exempt(..) | Self::Owner => MASQUERADING,
            Self::Forward | Self::Guard(_) => guard::FORWARDING,
            Self::KeepApart => guard::APART,
            Self::SpoofCheck => SPOOFING,
            Self::Publish => publish::ARRIVING,
            Self::Ports(..) => publish::PUBLISHED,
            Self::Hairpin(..) | Self::FromLocalhost | Self::PortMasquerade(_) => publish::ANSWERING,
        }
    }

    /// Chains that its rules jump to.
    pub(super) fn jumped_to(&self) -> Option<Chain<'static>> {
        match self {
            Self::Publish => Some(publish::PUBLISHED),
            Self::Forward => Some(guard::ADMIN),
            _ => None,
        }
    }

    /// The sets that rules of its chain look into.
    pub(super) fn looked_up(&self) -> Vec<Place> {
        match self {
            Self::Masquerade => vec![Place::masq(Ip::V4), Place::masq(Ip::V6)],
            Self::Exempt(ip, prefix) => vec![Place::exempt(*ip, *prefix)],
            Self::SpoofCheck => vec![Place::spoof_checked(), Place::spoof_allowed()],
            Self::Publish => vec![],
            Self::Ports(ip, conditions) => {
                let suffix = suffix(conditions);
                vec![Place::port(*ip, &suffix), Place::port_any(*ip, &suffix)]
            }
            Self::Hairpin(ip, prefix) => vec![Place::hairpin(*ip, *prefix)],
            Self::FromLocalhost => vec![Place::from_localhost()],
            Self::PortMasquerade(ip) => vec![Place::port_masq(*ip)],
            Self::Owner | Self::Forward => vec![],
            Self::Guard(ip) => vec![Place::guarded(*ip), Place::let_in(*ip)],
            Self::KeepApart => vec![Place::apart()],
        }
    }
}

fn owner(batch: &mut Batch) {
    batch.ensure_table(INET);
    batch.add_set(Place::owner(Ip::V4).set());
    batch.add_set(Place::owner(Ip::V6).set());
}

fn masquerade(batch: &mut Batch) {
    batch.ensure_table(INET);
    batch.add_set(Place::masq(Ip::V4).set());
    batch.add_set(Place::masq(Ip::V6).set());
    batch.add_chain(MASQUERADING);
    let rule = || Rule::new(MASQUERADING);
    // Containers may talk to each other by multicast, as with the reference plugins.
    for (ip, multicast) in [(Ip::V4, "224.0.0.0/4"), (Ip::V6, "ff00::/8")] {
        let multicast = multicast.parse().expect("a network");
        batch.append_rule(rule().within(ip.destination(), multicast).verdict(Verdict::Return));
    }
    for ip in [Ip::V4, Ip::V6] {
        let key = [Field::Iifname.into(), ip.source().into()];
        batch.append_rule(rule().in_set(&key, Place::masq(ip).set()).masquerade());
    }
}

fn exempt(batch: &mut Batch, ip: Ip, prefix: u8) {
    let place = Place::exempt(ip, prefix);
    batch.add_set(place.set());
    let key: [Part; 3] = [Field::Iifname.into(), ip.source().into(), ip.destination().prefix(prefix)];
    // Before the rules that masquerade.
    batch.insert_rule(Rule::new(MASQUERADING).in_set(&key, place.set()).verdict(Verdict::Return));
}

fn spoof_check(batch: &mut Batch) {
    batch.ensure_table(BRIDGE);
    let (checked, allowed) = (Place::spoof_checked(), Place::spoof_allowed());
    batch.add_set(checked.set());
    batch.add_set(allowed.set());
    batch.add_chain(SPOOFING);
    batch.append_rule(
        Rule::new(SPOOFING)
            .in_set(&[Field::Iifname.into()], checked.set())
            .not_in_set(&[Field::Iifname.into(), Field::EtherSource.into()], allowed.set())
            .verdict(Verdict::Drop),
    );
}

impl Place {
    pub(super) fn inet(
        name: impl Into<Cow<'static, str>>,
        key: &'static [Type],
        data: &'static [Type],
    ) -> Self {
        Self { table: INET, name: name.into(), key, data }
    }

    pub(super) fn bridge(name: &'static str, key: &'static [Type]) -> Self {
        Self { table: BRIDGE, name: name.into(), key, data: &[] }
    }

    /// Whose an address behind an interface is. No rule looks here.
    pub(super) fn owner(ip: Ip) -> Self {
        let (name, key): (_, &[_]) = match ip {
            Ip::V4 => ("owner4", &[Type::Ifname, Type::Ip4]),
            Ip::V6 => ("owner6", &[Type::Ifname, Type::Ip6]),
        };
        Self { table: INET, name: name.into(), key, data: &[Type::Ifname] }
    }

    /// Which addresses behind which interface are masqueraded.
    pub(super) fn masq(ip: Ip) -> Self {
        let (name, key): (_, &[_]) = match ip {
            Ip::V4 => ("masq4", &[Type::Ifname, Type::Ip4]),
            Ip::V6 => ("masq6", &[Type::Ifname, Type::Ip6]),
        };
        Self { table: INET, name: name.into(), key, data: &[] }
    }

    /// Towards which networks of this prefix length they are not.
    pub(super) fn exempt(ip: Ip, prefix: u8) -> Self {
        let (name, key): (_, &[_]) = match ip {
            Ip::V4 => (EXEMPT4, &[Type::Ifname, Type::Ip4, Type::Ip4]),
            Ip::V6 => (EXEMPT6, &[Type::Ifname, Type::Ip6, Type::Ip6]),
        };
        Self { table: INET, name: format!("{name}{prefix}").into(), key, data: &[] }
    }

    /// The bridge ports whose frames are checked.
    pub(super) fn spoof_checked() -> Self {
        Self { table: BRIDGE, name: "spoof_checked".into(), key: &[Type::Ifname], data: &[] }
    }

    /// The sender each of them may use.
    pub(super) fn spoof_allowed() -> Self {
        Self { table: BRIDGE, name: "spoof_allowed".into(), key: &[Type::Ifname, Type::Ether], data: &[] }
    }

    /// The place of this name, if it is one of ours that holds elements of attachments.
    pub(super) fn named(table: Table<'_>, name: &str) -> Option<Self> {
        let exempt = |digits: &str, ip| digits.parse().ok().map(|prefix| Self::exempt(ip, prefix));
        let place = match name {
            "owner4" => Self::owner(Ip::V4),
            "owner6" => Self::owner(Ip::V6),
            "masq4" => Self::masq(Ip::V4),
            "masq6" => Self::masq(Ip::V6),
            "spoof_checked" => Self::spoof_checked(),
            "spoof_allowed" => Self::spoof_allowed(),
            "guarded4" => Self::guarded(Ip::V4),
            "guarded6" => Self::guarded(Ip::V6),
            "let_in4" => Self::let_in(Ip::V4),
            "let_in6" => Self::let_in(Ip::V6),
            "apart" => Self::apart(),
            _ => match (name.strip_prefix(EXEMPT4), name.strip_prefix(EXEMPT6)) {
                (Some(digits), _) => exempt(digits, Ip::V4)?,
                (_, Some(digits)) => exempt(digits, Ip::V6)?,
                _ => Self::of_ports(name)?,
            },
        };
        (place.table == table).then_some(place)
    }

    /// It says whose addresses are: keys that pass from one holder to the next, so that an older one is gone.
    pub(super) fn is_of_owners(&self) -> bool {
        [Ip::V4, Ip::V6].map(Self::owner).contains(self)
    }

    /// Its elements belong to whom the address belongs to, whatever they say.
    pub(super) fn goes_with_address(&self) -> bool {
        ["masq4", "masq6", EXEMPT4, EXEMPT6, "guarded", "let_in"]
            .iter()
            .any(|name| self.name.starts_with(name))
    }

    /// It is portmap's.
    pub(super) fn is_of_ports(&self) -> bool {
        ["port", "hairpin", "from_localhost"].iter().any(|name| self.name.starts_with(name))
    }

    /// It is firewall's.
    pub(super) fn is_of_guard(&self) -> bool {
        ["guarded", "let_in", "apart"].iter().any(|name| self.name.starts_with(name))
    }

    pub(super) fn set(&self) -> Set<'_> {
        Set { table: self.table, name: &self.name, key: self.key, data: self.data, intervals: false }
    }
}

impl Ip {
    pub(super) fn source(self) -> Field {
        match self {
            Self::V4 => Field::Ip4Source,
            Self::V6 => Field::Ip6Source,
        }
    }

    pub(super) fn destination(self) -> Field {
        match self {
            Self::V4 => Field::Ip4Destination,
            Self::V6 => Field::Ip6Destination,
        }
    }
}

const EXEMPT4: &str = "exempt4_";
const EXEMPT6: &str = "exempt6_";

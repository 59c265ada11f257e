//! Published ports: what is sent to a port of the host goes to a container, whoever sends it.
//!
//! Two maps a family: ports of one address of the host, and of all of them. A map of owners beside them, with the
//! unspecified address for "all", keeps two attachments from having one port. Answers must come back through the host
//! where the sender could be reached without it (the container's own network) or not at all (127.0.0.1): such
//! connections are masqueraded, by sets in which the interface towards the container has its place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::names::Attachment;
use ipnetwork::IpNetwork;
use kernel::{
    error::Result,
    nft::{
        Nft,
        batch::Batch,
        element::{Data, Element},
        rule::{Field, Part, Rule, Verdict},
        table::{Chain, ChainKind, Hook},
        value::{Type, Value},
    },
};
use serde::{Deserialize, Serialize};

use super::{
    condition::{Condition, suffix},
    owner::Owner,
    plan::{Group, Plan},
    schema::{Feature, INET, Ip, Place},
};

/// One published port of one IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// IP protocol number.
    pub protocol: u8,
    /// An address of the host, or the unspecified one for all of them.
    pub host: IpAddr,
    pub host_port: u16,
    /// Of the same IP version.
    pub container: IpAddr,
    pub container_port: u16,
}

/// How answers find their way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return<'a> {
    /// Nothing is done for them.
    Direct,
    /// From the container's own network `subnet`, and from the host's 127.0.0.0/8, through the host. `oif` is the host's
    /// interface towards the container.
    Local { oif: &'a str, subnet: IpNetwork },
    /// Always through the host.
    Always { oif: &'a str },
}

/// The ports of one attachment that go to one address of the container.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    pub ports: &'a [Port],
    pub back: Return<'a>,
    /// All must hold for a connection to be passed on.
    pub conditions: &'a [Condition],
    pub owner: &'a Owner,
}

impl Publish<'_> {
    pub(super) fn plan(&self, plan: &mut Plan) {
        for port in self.ports {
            self.plan_port(port, plan);
        }
    }

    fn plan_port(&self, port: &Port, plan: &mut Plan) {
        let ip = Ip::of(port.container);
        let (protocol, host_port) = (Value::Protocol(port.protocol), Value::Port(port.host_port));
        let owned = |element: Element| element.commented(self.owner.comment());
        let suffix = suffix(self.conditions);
        let (place, key) = if port.host.is_unspecified() {
            (Place::port_any(ip, &suffix), vec![protocol.clone(), host_port.clone()])
        } else {
            (Place::port(ip, &suffix), vec![Value::Ip(port.host), protocol.clone(), host_port.clone()])
        };
        let to = [Value::Ip(port.container), Value::Port(port.container_port)];
        let mut elements = vec![(place, owned(Element::to(key, to)))];
        plan.features.extend([Feature::Publish, Feature::Ports(ip, self.conditions.to_vec())]);
        let mut back = |feature, place, oif: &str, subnet: Option<IpNetwork>| {
            let mut key = vec![Value::Ifname(oif.to_owned()), Value::Ip(port.container)];
            key.extend(subnet.map(|subnet| Value::Ip(subnet.network())));
            key.extend([protocol.clone(), host_port.clone()]);
            elements.push((place, owned(Element::new(key))));
            plan.features.insert(feature);
        };
        match self.back {
            Return::Direct => {}
            Return::Local { oif, subnet } => {
                let prefix = subnet.prefix();
                back(Feature::Hairpin(ip, prefix), Place::hairpin(ip, prefix), oif, Some(subnet));
                if ip == Ip::V4 {
                    back(Feature::FromLocalhost, Place::from_localhost(), oif, None);
                }
            }
            Return::Always { oif } => back(Feature::PortMasquerade(ip), Place::port_masq(ip), oif, None),
        }
        let key = [Value::Ip(port.host), protocol, host_port];
        let guard = owned(Element::to(key, [Value::Ifname(self.owner.tag().to_owned())]));
        plan.groups.push(Group { guard: Some((Place::port_owner(ip), guard)), elements });
    }
}

/// A port that another attachment has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub protocol: u8,
    pub host: IpAddr,
    pub host_port: u16,
    /// Whose it is, in the form of [`Owner::comment`].
    pub owner: String,
}

impl Taken {
    /// The attachment, where its names are short enough for the comment to hold them.
    pub fn attachment(&self) -> Option<Attachment> {
        let mut names = self.owner.split('/');
        let (Some(network), Some(container), Some(ifname), None) =
            (names.next(), names.next(), names.next(), names.next())
        else {
            return None;
        };
        Some(Attachment {
            network: network.parse().ok()?,
            container: container.parse().ok()?,
            ifname: ifname.parse().ok()?,
        })
    }
}

/// Those ports of a plan that other attachments have.
pub fn taken(plan: &Plan, nft: &mut Nft) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    for (place, guard) in plan.groups.iter().filter_map(|group| group.guard.as_ref()) {
        let [Value::Ip(host), Value::Protocol(protocol), Value::Port(host_port)] = guard.key[..] else {
            continue;
        };
        let Some(found) = nft.find_element(place.set(), &guard.key)? else { continue };
        if found.data != guard.data {
            let owner = found.comment.unwrap_or_default();
            taken.push(Taken { protocol, host, host_port, owner });
        }
    }
    Ok(taken)
}

/// The number of ports that all attachments have published.
pub fn count(nft: &mut Nft) -> Result<usize> {
    let mut count = 0;
    for ip in [Ip::V4, Ip::V6] {
        let owners = nft.elements(Place::port_owner(ip).set())?;
        count += owners.iter().filter(|owner| owner.data != Data::None).count();
    }
    Ok(count)
}

/// What everything else hangs on: the ways to the maps, and the way of the answers.
pub(super) fn publish(batch: &mut Batch) {
    batch.ensure_table(INET);
    for ip in [Ip::V4, Ip::V6] {
        batch.add_set(Place::port_owner(ip).set());
    }
    for chain in [PUBLISHED, ARRIVING, SENDING, ANSWERING] {
        batch.add_chain(chain);
    }
    let jump = || Verdict::Jump(PUBLISHED.name.to_owned());
    // What is sent from ::1 can't leave the host, whatever its destination becomes (there is no route_localnet for IPv6).
    let localhost = Value::Ip(Ipv6Addr::LOCALHOST.into());
    batch.append_rule(Rule::new(SENDING).equal(Field::Ip6Destination, &localhost).verdict(Verdict::Return));
    for chain in [ARRIVING, SENDING] {
        batch.append_rule(Rule::new(chain).to_this_host().verdict(jump()));
    }
}

/// The maps of one IP version for ports under the same conditions. An address of its own comes before "all".
pub(super) fn ports(batch: &mut Batch, ip: Ip, conditions: &[Condition]) {
    let suffix = suffix(conditions);
    let (one, any) = (Place::port(ip, &suffix), Place::port_any(ip, &suffix));
    batch.add_set(one.set());
    batch.add_set(any.set());
    let rule = || conditions.iter().fold(Rule::new(PUBLISHED), |rule, condition| condition.apply(rule, ip));
    let port = [Field::L4Proto.into(), Field::DestinationPort.into()];
    batch.insert_rule(rule().dnat_map(&[ip.destination().into(), port[0], port[1]], one.set()));
    batch.append_rule(rule().dnat_map(&port, any.set()));
}

pub(super) fn hairpin(batch: &mut Batch, ip: Ip, prefix: u8) {
    let place = Place::hairpin(ip, prefix);
    let [oif, container, protocol, port] = answered(ip);
    batch.add_set(place.set());
    let key = [oif, container, ip.source().prefix(prefix), protocol, port];
    for rule in answering() {
        batch.append_rule(rule.in_set(&key, place.set()).masquerade());
    }
}

/// Connections from 127.0.0.1, and what makes it safe to let them out: nobody else sends to such addresses.
pub(super) fn from_localhost(batch: &mut Batch) {
    let place = Place::from_localhost();
    let localhost: IpNetwork = IpNetwork::new(Ipv4Addr::LOCALHOST.into(), 8).expect("8 bits of 32");
    batch.add_set(place.set());
    batch.add_chain(MARTIANS);
    let lo = Value::Ifname("lo".to_owned());
    batch.append_rule(
        Rule::new(MARTIANS)
            .not_equal(Field::Iifname, &lo)
            .within(Field::Ip4Destination, localhost)
            .verdict(Verdict::Drop),
    );
    for rule in answering() {
        let rule = rule.within(Field::Ip4Source, localhost);
        batch.append_rule(rule.in_set(&answered(Ip::V4), place.set()).masquerade());
    }
}

pub(super) fn port_masquerade(batch: &mut Batch, ip: Ip) {
    let place = Place::port_masq(ip);
    batch.add_set(place.set());
    for rule in answering() {
        batch.append_rule(rule.in_set(&answered(ip), place.set()).masquerade());
    }
}

/// How rules begin that look at translated connections. nft only reads the port of a connection as one, in a
/// concatenation, behind a test for the protocol that has it.
fn answering() -> impl Iterator<Item = Rule<'static>> {
    let of_protocol = |number| Rule::new(ANSWERING).equal(Field::L4Proto, &Value::Protocol(number));
    [6, 17, 132].into_iter().map(move |number| of_protocol(number).translated())
}

/// By which interface a translated connection goes to which container, and to which port of the host it was sent.
fn answered(ip: Ip) -> [Part; 4] {
    let port = Field::CtOriginalDestinationPort.into();
    [Field::Oifname.into(), ip.destination().into(), Field::L4Proto.into(), port]
}

impl Place {
    /// Whose a port is. No rule looks here.
    pub(super) fn port_owner(ip: Ip) -> Self {
        match ip {
            Ip::V4 => Self::inet("port_owner4", &[Type::Ip4, Type::Protocol, Type::Port], &[Type::Ifname]),
            Ip::V6 => Self::inet("port_owner6", &[Type::Ip6, Type::Protocol, Type::Port], &[Type::Ifname]),
        }
    }

    /// Where ports of one address of the host lead.
    pub(super) fn port(ip: Ip, suffix: &str) -> Self {
        match ip {
            Ip::V4 => Self::inet(
                format!("{PORT4}{suffix}"),
                &[Type::Ip4, Type::Protocol, Type::Port],
                &[Type::Ip4, Type::Port],
            ),
            Ip::V6 => Self::inet(
                format!("{PORT6}{suffix}"),
                &[Type::Ip6, Type::Protocol, Type::Port],
                &[Type::Ip6, Type::Port],
            ),
        }
    }

    /// Where ports of all addresses of the host lead.
    pub(super) fn port_any(ip: Ip, suffix: &str) -> Self {
        let key = &[Type::Protocol, Type::Port];
        match ip {
            Ip::V4 => Self::inet(format!("{ANY4}{suffix}"), key, &[Type::Ip4, Type::Port]),
            Ip::V6 => Self::inet(format!("{ANY6}{suffix}"), key, &[Type::Ip6, Type::Port]),
        }
    }

    /// Which containers are sent to by their neighbours, with a prefix of this length, through the host.
    pub(super) fn hairpin(ip: Ip, prefix: u8) -> Self {
        const KEY4: &[Type] = &[Type::Ifname, Type::Ip4, Type::Ip4, Type::Protocol, Type::Port];
        const KEY6: &[Type] = &[Type::Ifname, Type::Ip6, Type::Ip6, Type::Protocol, Type::Port];
        match ip {
            Ip::V4 => Self::inet(format!("{HAIRPIN4}{prefix}"), KEY4, &[]),
            Ip::V6 => Self::inet(format!("{HAIRPIN6}{prefix}"), KEY6, &[]),
        }
    }

    /// Which containers are sent to from 127.0.0.1.
    pub(super) fn from_localhost() -> Self {
        Self::inet("from_localhost", &[Type::Ifname, Type::Ip4, Type::Protocol, Type::Port], &[])
    }

    /// Which containers see the host in place of everybody.
    pub(super) fn port_masq(ip: Ip) -> Self {
        match ip {
            Ip::V4 => Self::inet("port_masq4", &[Type::Ifname, Type::Ip4, Type::Protocol, Type::Port], &[]),
            Ip::V6 => Self::inet("port_masq6", &[Type::Ifname, Type::Ip6, Type::Protocol, Type::Port], &[]),
        }
    }

    pub(super) fn of_ports(name: &str) -> Option<Self> {
        let prefix = |digits: &str, ip| digits.parse().ok().map(|prefix| Self::hairpin(ip, prefix));
        Some(match name {
            "port_owner4" => Self::port_owner(Ip::V4),
            "port_owner6" => Self::port_owner(Ip::V6),
            "from_localhost" => Self::from_localhost(),
            "port_masq4" => Self::port_masq(Ip::V4),
            "port_masq6" => Self::port_masq(Ip::V6),
            _ => {
                let behind = |text| name.strip_prefix(text);
                // The longer names first.
                if let Some(digits) = behind(HAIRPIN4) {
                    prefix(digits, Ip::V4)?
                } else if let Some(digits) = behind(HAIRPIN6) {
                    prefix(digits, Ip::V6)?
                } else if let Some(suffix) = behind(ANY4) {
                    Self::port_any(Ip::V4, suffix)
                } else if let Some(suffix) = behind(ANY6) {
                    Self::port_any(Ip::V6, suffix)
                } else if let Some(suffix) = behind(PORT4) {
                    Self::port(Ip::V4, suffix)
                } else {
                    Self::port(Ip::V6, behind(PORT6)?)
                }
            }
        })
    }
}

impl Ip {
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

const PORT4: &str = "port4";
const PORT6: &str = "port6";
const ANY4: &str = "port4_any";
const ANY6: &str = "port6_any";
const HAIRPIN4: &str = "hairpin4_";
const HAIRPIN6: &str = "hairpin6_";

/// Where a connection is sent on, if it is to a published port.
pub(super) const PUBLISHED: Chain<'static> = INET.chain("published");
/// Connections from elsewhere. The priority is nft's `dstnat`.
pub(super) const ARRIVING: Chain<'static> =
    INET.base_chain("arriving", ChainKind::Nat, Hook::Prerouting, -100);
/// Connections of this host.
pub(super) const SENDING: Chain<'static> = INET.base_chain("sending", ChainKind::Nat, Hook::Output, -100);
/// Before masquerading, where containers are exempt towards their own network.
pub(super) const ANSWERING: Chain<'static> =
    INET.base_chain("answering", ChainKind::Nat, Hook::Postrouting, 99);
/// Before addresses are translated: the answers to 127.0.0.1 are not addressed to it yet. The priority is nft's `raw`.
pub(super) const MARTIANS: Chain<'static> =
    INET.base_chain("martians", ChainKind::Filter, Hook::Prerouting, -300);

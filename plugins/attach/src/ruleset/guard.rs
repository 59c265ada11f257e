//! Who may open connections to containers, and which networks have no way out.
//!
//! The user's own chain `admin` comes first: it is made empty, and never touched. What it accepts or drops is decided, for
//! these rules. Then answers pass, and what is sent to published ports; then nobody else reaches a guarded container
//! but those interfaces that its elements name. The interface a packet came by can't be forged, as its sender can.

use std::net::IpAddr;

use kernel::{
    error::Result,
    nft::{
        Nft,
        batch::Batch,
        element::Element,
        rule::{Field, Rule, Verdict},
        table::{Chain, ChainKind, Hook, Set},
        value::{Type, Value},
    },
};

use super::{
    owner::Owner,
    plan::{Group, Plan},
    schema::{BRIDGE, Feature, INET, Ip, Place},
};

/// Who may open connections to one attachment.
#[derive(Clone, Copy, Debug)]
pub struct Guard<'a> {
    /// The host's interface towards the container.
    pub oif: &'a str,
    /// The container's addresses.
    pub addresses: &'a [IpAddr],
    /// By which interfaces connections may come.
    pub from: &'a [String],
    /// The container's port of the bridge, to keep it from other such ports: needed where the bridge passes on what the
    /// rules above then don't see.
    pub port: Option<&'a str>,
    /// Whose they are.
    pub owner: &'a Owner,
}

impl Guard<'_> {
    pub(super) fn plan(&self, plan: &mut Plan) {
        let owned = |element: Element| element.commented(self.owner.comment());
        plan.features.insert(Feature::Forward);
        for &address in self.addresses {
            let ip = Ip::of(address);
            let key = vec![Value::Ifname(self.oif.to_owned()), Value::Ip(address)];
            let mut elements = vec![(Place::guarded(ip), owned(Element::new(key.clone())))];
            for from in self.from {
                let mut key = key.clone();
                key.push(Value::Ifname(from.clone()));
                elements.push((Place::let_in(ip), owned(Element::new(key))));
            }
            let guard = owned(Element::to(key, [Value::Ifname(self.owner.tag().to_owned())]));
            plan.groups.push(Group { guard: Some((Place::owner(ip), guard)), elements });
            plan.features.extend([Feature::Owner, Feature::Guard(ip)]);
        }
        if let Some(port) = self.port {
            let element = owned(Element::new([Value::Ifname(port.to_owned())]));
            plan.groups.push(Group { guard: None, elements: vec![(Place::apart(), element)] });
            plan.features.insert(Feature::KeepApart);
        }
    }
}

/// Makes a network that lives on this interface of the host internal: nothing is forwarded to it or from it, but within it.
/// The elements are the network's, not an attachment's: under its lock.
pub fn ensure_internal(nft: &mut Nft, interface: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch.ensure_elements(INTERNAL, &[Element::new([name(interface)])]);
    batch.ensure_elements(WITHIN, &[Element::new([name(interface), name(interface)])]);
    match nft.commit(batch.clone()) {
        Err(err) if err.is_missing() => {}
        done => return done,
    }
    match nft.commit(Feature::Forward.schema()) {
        Err(err) if err.is_exists() => {}
        done => done?,
    }
    nft.commit(batch)
}

/// Ends [`ensure_internal`]; accepts that it is not so.
pub fn remove_internal(nft: &mut Nft, interface: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch.remove_element(INTERNAL, &[name(interface)]);
    batch.remove_element(WITHIN, &[name(interface), name(interface)]);
    nft.commit(batch)
}

/// Whether [`ensure_internal`] still holds.
pub fn is_internal(nft: &mut Nft, interface: &str) -> Result<bool> {
    Ok(nft.find_element(INTERNAL, &[name(interface)])?.is_some()
        && nft.find_element(WITHIN, &[name(interface), name(interface)])?.is_some())
}

fn name(interface: &str) -> Value {
    Value::Ifname(interface.to_owned())
}

pub(super) fn forward(batch: &mut Batch) {
    batch.ensure_table(INET);
    batch.add_set(INTERNAL);
    batch.add_set(WITHIN);
    batch.add_chain(ADMIN);
    batch.add_chain(FORWARDING);
    let rule = || Rule::new(FORWARDING);
    let way = [Field::Iifname.into(), Field::Oifname.into()];
    batch.append_rule(rule().verdict(Verdict::Jump(ADMIN.name.to_owned())));
    batch.append_rule(rule().established().verdict(Verdict::Accept));
    for field in [Field::Iifname, Field::Oifname] {
        let internal = rule().in_set(&[field.into()], INTERNAL).not_in_set(&way, WITHIN);
        batch.append_rule(internal.verdict(Verdict::Drop));
    }
    batch.append_rule(rule().translated().verdict(Verdict::Accept));
}

pub(super) fn guard(batch: &mut Batch, ip: Ip) {
    let (guarded, let_in) = (Place::guarded(ip), Place::let_in(ip));
    batch.add_set(guarded.set());
    batch.add_set(let_in.set());
    let to = [Field::Oifname.into(), ip.destination().into()];
    let rule = Rule::new(FORWARDING).in_set(&to, guarded.set());
    let rule = rule.not_in_set(&[to[0], to[1], Field::Iifname.into()], let_in.set());
    batch.append_rule(rule.verdict(Verdict::Drop));
}

pub(super) fn keep_apart(batch: &mut Batch) {
    batch.ensure_table(BRIDGE);
    let ports = Place::apart();
    batch.add_set(ports.set());
    batch.add_chain(APART);
    let rule = Rule::new(APART).in_set(&[Field::Iifname.into()], ports.set());
    batch.append_rule(rule.in_set(&[Field::Oifname.into()], ports.set()).verdict(Verdict::Drop));
}

impl Place {
    /// Which containers are guarded.
    pub(super) fn guarded(ip: Ip) -> Self {
        match ip {
            Ip::V4 => Self::inet("guarded4", &[Type::Ifname, Type::Ip4], &[]),
            Ip::V6 => Self::inet("guarded6", &[Type::Ifname, Type::Ip6], &[]),
        }
    }

    /// By which interfaces connections to them may come.
    pub(super) fn let_in(ip: Ip) -> Self {
        match ip {
            Ip::V4 => Self::inet("let_in4", &[Type::Ifname, Type::Ip4, Type::Ifname], &[]),
            Ip::V6 => Self::inet("let_in6", &[Type::Ifname, Type::Ip6, Type::Ifname], &[]),
        }
    }

    /// The bridge ports that are kept apart.
    pub(super) fn apart() -> Self {
        Self::bridge("apart", &[Type::Ifname])
    }
}

const INTERNAL: Set<'static> = INET.set("internal", &[Type::Ifname]);
const WITHIN: Set<'static> = INET.set("within", &[Type::Ifname, Type::Ifname]);
/// The user's.
pub(super) const ADMIN: Chain<'static> = INET.chain("admin");
pub(super) const FORWARDING: Chain<'static> =
    INET.base_chain("forwarding", ChainKind::Filter, Hook::Forward, 0);
/// The priority is nft's `filter` of the bridge family.
pub(super) const APART: Chain<'static> =
    BRIDGE.base_chain("keeping_apart", ChainKind::Filter, Hook::Forward, -200);

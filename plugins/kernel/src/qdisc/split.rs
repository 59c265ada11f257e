//! A queueing discipline that holds back what goes to some peers, or comes from them, and lets the rest pass: tc-htb(8)
//! with one class, and tc-u32(8) to tell what is of that class.
//!
//! What is of no class goes out directly, before everything else.

use ipnetwork::IpNetwork;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, Nla, NlasIterator};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{
        TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcOption, TcU32Key, TcU32Selector,
        TcU32SelectorFlags,
    },
};

use super::{LINKLAYER_ETHERNET, TICK, TokenBucket, on, option, remove_bucket, ticks};
use crate::{
    error::Result,
    link::Dev,
    netlink::{Netlink, Request},
};

/// What is held back, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The queue's `limit` is that of what waits; the burst need not hold a whole packet.
    pub bucket: TokenBucket,
    /// Which address of a packet is that of the peer.
    pub peer: Peer,
    pub held_back: HeldBack,
    /// Of the peers; sorted, each once, without bits of a host.
    pub subnets: Vec<IpNetwork>,
}

/// Which of a packet's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Source,
    Destination,
}

/// Whether the subnets are held back, or everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBack {
    Subnets,
    Others,
}

/// Shapes what `dev` sends, in place of what it had.
pub fn replace(dev: &Dev, split: &Split) -> Vec<Request> {
    let mut requests = vec![remove_bucket(dev), root(dev, split), class(dev, split), queue(dev, split)];
    requests.extend(split.subnets.iter().map(|subnet| filter(dev, split, *subnet)));
    requests
}

/// `struct tc_htb_glob`: version 3, a divisor for what our class says itself, and the class of what no filter names.
fn root(dev: &Dev, split: &Split) -> Request {
    let init = [3, 10, u32::from(split.unnamed()), 0, 0].map(u32::to_ne_bytes);
    let mut message = on(dev.index, TcHandle::ROOT);
    message.header.handle = ROOT;
    message.attributes.push(TcAttribute::Kind(HTB.to_owned()));
    message.attributes.push(TcAttribute::Options(vec![option(TCA_HTB_INIT, init.as_flattened().to_vec())]));
    Request::new(RouteNetlinkMessage::NewQueueDiscipline(message), NEW, act("shape", dev, split))
}

/// `struct tc_htb_opt`.
fn class(dev: &Dev, split: &Split) -> Request {
    let TokenBucket { rate, burst, limit: _ } = split.bucket;
    let mut spec = vec![0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
    spec.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    // No more than its own rate when there is more: there is nobody to borrow from.
    let mut parms = [spec.clone(), spec].concat();
    for number in [ticks(rate, burst), ticks(rate, burst), QUANTUM, 0, 0] {
        parms.extend(number.to_ne_bytes());
    }
    let mut options = vec![option(TCA_HTB_PARMS, parms)];
    if rate > u64::from(u32::MAX) {
        options
            .extend([TCA_HTB_RATE64, TCA_HTB_CEIL64].map(|kind| option(kind, rate.to_ne_bytes().to_vec())));
    }
    let mut message = on(dev.index, ROOT);
    message.header.handle = CLASS;
    message.attributes.push(TcAttribute::Kind(HTB.to_owned()));
    message.attributes.push(TcAttribute::Options(options));
    Request::new(RouteNetlinkMessage::NewTrafficClass(message), NEW, act("limit the class of", dev, split))
}

/// A queue by bytes, `struct tc_fifo_qopt`, instead of one by packets that a slow rate would take seconds for.
fn queue(dev: &Dev, split: &Split) -> Request {
    let mut message = on(dev.index, CLASS);
    message.header.handle = TcHandle { major: CLASS.minor, minor: 0 };
    message.attributes.push(TcAttribute::Kind("bfifo".to_owned()));
    let limit = split.bucket.limit.to_ne_bytes().to_vec();
    message.attributes.push(TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, limit)));
    Request::new(RouteNetlinkMessage::NewQueueDiscipline(message), NEW, act("limit the queue of", dev, split))
}

fn filter(dev: &Dev, split: &Split, subnet: IpNetwork) -> Request {
    let mut message = on(dev.index, ROOT);
    // Filters of one priority are of one protocol.
    let (priority, protocol) = if subnet.is_ipv4() { (1, ETH_P_IP) } else { (2, ETH_P_IPV6) };
    message.header.info = priority << 16 | u32::from(protocol.to_be());
    message.attributes.push(TcAttribute::Kind(TcFilterU32::KIND.to_owned()));
    let options =
        [TcFilterU32Option::ClassId(split.named()), TcFilterU32Option::Selector(within(split.peer, subnet))];
    message.attributes.push(TcAttribute::Options(options.map(TcOption::U32).into()));
    let act = format!("{} {subnet}", act("tell apart, in what is sent by", dev, split));
    Request::new(RouteNetlinkMessage::NewTrafficFilter(message), NEW, act)
}

/// Words of the IP header at their place; those that the prefix does not reach are left out.
fn within(peer: Peer, subnet: IpNetwork) -> TcU32Selector {
    let (address, mask) = match subnet {
        IpNetwork::V4(subnet) => (subnet.network().octets().to_vec(), subnet.mask().octets().to_vec()),
        IpNetwork::V6(subnet) => (subnet.network().octets().to_vec(), subnet.mask().octets().to_vec()),
    };
    let word =
        |bytes: &[u8], at: usize| bytes[at..].first_chunk().map_or(0, |word| u32::from_be_bytes(*word));
    let start = place(peer, subnet.is_ipv4());
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    for (number, at) in (0..address.len()).step_by(4).enumerate() {
        let mut key = TcU32Key::default();
        (key.val, key.mask) = (word(&address, at), word(&mask, at));
        key.off = start + 4 * i32::try_from(number).expect("an address has four words at most");
        // Without any key it would match nothing.
        if key.mask != 0 || number == 0 {
            selector.keys.push(key);
        }
    }
    selector.nkeys = u8::try_from(selector.keys.len()).expect("an address has four words at most");
    selector
}

/// Where the address begins in the header.
fn place(peer: Peer, v4: bool) -> i32 {
    match (peer, v4) {
        (Peer::Source, true) => 12,
        (Peer::Destination, true) => 16,
        (Peer::Source, false) => 8,
        (Peer::Destination, false) => 24,
    }
}

fn act(verb: &str, dev: &Dev, split: &Split) -> String {
    format!("{verb} {} to {} bytes a second", dev.name, split.bucket.rate)
}

/// How what `dev` has differs, in words: `None` when it is as `wanted`.
pub fn difference(nl: &mut Netlink, dev: &Dev, wanted: &Split) -> Result<Option<String>> {
    let act = format!("list queueing disciplines of {}", dev.name);
    let of_dev = |message: &TcMessage| message.header.index == u32::from(dev.index).cast_signed();
    let mut list = |kind: fn(TcMessage) -> RouteNetlinkMessage, parent| -> Result<Vec<TcMessage>> {
        let found = nl.dump(&kind(on(dev.index, parent)), &act)?;
        Ok(found.into_iter().filter_map(inner).filter(of_dev).collect())
    };
    let qdiscs = list(RouteNetlinkMessage::GetQueueDiscipline, TcHandle::default())?;
    let classes = list(RouteNetlinkMessage::GetTrafficClass, TcHandle::default())?;
    let filters = list(RouteNetlinkMessage::GetTrafficFilter, ROOT)?;
    let limit =
        qdiscs.iter().find(|message| message.header.parent == CLASS).and_then(|message| number(message, 0));
    let Some(bucket) = classes.iter().find(|message| message.header.handle == CLASS).and_then(bucket) else {
        return Ok(Some("is not limited".to_owned()));
    };
    let same = (bucket.rate, limit) == (wanted.bucket.rate, Some(wanted.bucket.limit));
    if !same || bucket.burst > wanted.bucket.burst {
        let (rate, burst) = (bucket.rate.saturating_mul(8), u64::from(bucket.burst) * 8);
        return Ok(Some(format!("has rate {rate} and burst {burst}")));
    }
    let unnamed = qdiscs.iter().find(|message| message.header.handle == ROOT).and_then(|message| {
        let init = nested(message, TCA_HTB_INIT)?;
        Some(u32::from_ne_bytes(*init.get(8..)?.first_chunk()?))
    });
    if unnamed != Some(wanted.unnamed().into()) {
        return Ok(Some("limits other subnets".to_owned()));
    }
    let there: Vec<_> = filters.iter().filter_map(matched).collect();
    let lacking = wanted
        .subnets
        .iter()
        .find(|subnet| !there.contains(&(wanted.named(), within(wanted.peer, **subnet))));
    Ok(match lacking {
        Some(subnet) => Some(format!("does not tell {subnet} apart")),
        None if there.len() != wanted.subnets.len() => Some("tells more subnets apart".to_owned()),
        None => None,
    })
}

impl Split {
    /// The class of what no filter names.
    fn unnamed(&self) -> u16 {
        match self.held_back {
            HeldBack::Subnets => ROOT.minor,
            HeldBack::Others => CLASS.minor,
        }
    }

    /// Where filters lead: the discipline itself stands for no class.
    fn named(&self) -> TcHandle {
        match self.held_back {
            HeldBack::Subnets => CLASS,
            HeldBack::Others => ROOT,
        }
    }
}

fn inner(message: RouteNetlinkMessage) -> Option<TcMessage> {
    match message {
        RouteNetlinkMessage::NewQueueDiscipline(message)
        | RouteNetlinkMessage::NewTrafficClass(message)
        | RouteNetlinkMessage::NewTrafficFilter(message) => Some(message),
        _ => None,
    }
}

/// The options of what the netlink crate does not know, in one piece.
fn whole(message: &TcMessage) -> Option<Vec<u8>> {
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => options.first(),
        _ => None,
    })?;
    let mut bytes = vec![0; options.value_len()];
    options.emit_value(&mut bytes);
    Some(bytes)
}

fn nested(message: &TcMessage, kind: u16) -> Option<Vec<u8>> {
    let bytes = whole(message)?;
    let mut attributes = NlasIterator::new(&bytes).map_while(std::result::Result::ok);
    attributes.find(|attribute| attribute.kind() == kind).map(|attribute| attribute.value().to_vec())
}

fn number(message: &TcMessage, at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*whole(message)?.get(at..)?.first_chunk()?))
}

/// Without a limit, which is another's.
fn bucket(message: &TcMessage) -> Option<TokenBucket> {
    let parms = nested(message, TCA_HTB_PARMS)?;
    let field = |at: usize| Some(u32::from_ne_bytes(*parms.get(at..)?.first_chunk()?));
    let wide =
        nested(message, TCA_HTB_RATE64).and_then(|bytes| Some(u64::from_ne_bytes(*bytes.first_chunk()?)));
    let rate = wide.or_else(|| field(8).map(u64::from))?;
    let burst = u128::from(field(24)?) * TICK * u128::from(rate) / 1_000_000_000;
    Some(TokenBucket { rate, burst: u32::try_from(burst).unwrap_or(u32::MAX), limit: 0 })
}

/// Where a filter leads, and what it matches. What is listed besides are the tables of filters.
fn matched(message: &TcMessage) -> Option<(TcHandle, TcU32Selector)> {
    let mut found = (None, None);
    for attribute in &message.attributes {
        let TcAttribute::Options(options) = attribute else { continue };
        for option in options {
            match option {
                TcOption::U32(TcFilterU32Option::ClassId(class)) => found.0 = Some(*class),
                TcOption::U32(TcFilterU32Option::Selector(selector)) => found.1 = Some(selector.clone()),
                _ => {}
            }
        }
    }
    Some((found.0?, found.1?))
}

const HTB: &str = "htb";
const ROOT: TcHandle = TcHandle { major: 1, minor: 0 };
const CLASS: TcHandle = TcHandle { major: 1, minor: 0x30 };
const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// What a class sends at a turn; there is only one. The kernel complains where it would compute less or more.
const QUANTUM: u32 = 60_000;
const TCA_OPTIONS: u16 = 2;
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

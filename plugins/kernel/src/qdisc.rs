//! Queueing disciplines: shaping what a link sends, and sending what it receives through another link to shape that.

use std::time::Duration;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Nla, NlasIterator};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{
        TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption, TcActionType,
        TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcHeader, TcMessage, TcMirror,
        TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
    },
};

use crate::{
    error::Result,
    link::{Dev, LinkIndex},
    netlink::{Netlink, Request},
};

pub mod split;

/// A token bucket (tc-tbf(8)): no more than `rate` on average, `burst` at once, and what would wait too long is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes; at least one packet, with segmentation offload 64 KiB and more, or nothing passes.
    pub burst: u32,
    /// Bytes that may wait.
    pub limit: u32,
}

impl TokenBucket {
    /// A bucket in which no packet waits longer than `latency` beyond the burst.
    pub fn with_latency(rate: u64, burst: u32, latency: Duration) -> Self {
        let waiting = u128::from(rate) * latency.as_micros() / 1_000_000;
        let limit = u32::try_from(waiting + u128::from(burst)).unwrap_or(u32::MAX);
        Self { rate, burst, limit }
    }
}

/// A queueing discipline as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// The link it is on.
    pub link: LinkIndex,
    /// The kernel's name of it (`noqueue`, `tbf`, `ingress`).
    pub kind: String,
    /// Its parameters, if it is a token bucket. The kernel keeps the burst as a time, so it may come back a few bytes
    /// smaller.
    pub bucket: Option<TokenBucket>,
}

/// Shapes what `dev` sends, in place of what it had.
pub fn replace_bucket(dev: &Dev, bucket: &TokenBucket) -> Request {
    let mut message = on(dev.index, TcHandle::ROOT);
    message.header.handle = TcHandle { major: 1, minor: 0 };
    message.attributes.push(TcAttribute::Kind(TBF.to_owned()));
    message.attributes.push(TcAttribute::Options(encode(bucket)));
    let act = format!("shape {} to {} bytes a second", dev.name, bucket.rate);
    Request::new(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE, act)
}

/// Gives `dev` back its default discipline; accepts that it has it.
pub fn remove_bucket(dev: &Dev) -> Request {
    let act = format!("stop shaping {}", dev.name);
    Request::new(RouteNetlinkMessage::DelQueueDiscipline(on(dev.index, TcHandle::ROOT)), 0, act)
        .ok_if_missing()
}

/// Sends everything that `dev` receives through `to` (an ifb), whose discipline then shapes it. Two requests: the hook,
/// which may be there already (as `ingress`, or as somebody's `clsact`), and the filter on it.
pub fn redirect_received(dev: &Dev, to: &Dev) -> [Request; 2] {
    let mut hook = on(dev.index, INGRESS);
    hook.header.handle = TcHandle { major: 0xffff, minor: 0 };
    hook.attributes.push(TcAttribute::Kind("ingress".to_owned()));
    let act = format!("add ingress hook to {}", dev.name);
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let hook = Request::new(RouteNetlinkMessage::NewQueueDiscipline(hook), flags, act).ok_if_exists();

    let mut filter = on(dev.index, TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS });
    filter.header.info = FIRST_FOR_ALL_PROTOCOLS;
    filter.attributes.push(TcAttribute::Kind(TcFilterU32::KIND.to_owned()));
    let options =
        [TcFilterU32Option::Selector(everything()), TcFilterU32Option::Action(vec![redirect(to.index)])];
    filter.attributes.push(TcAttribute::Options(options.map(TcOption::U32).into()));
    let act = format!("redirect what {} receives to {}", dev.name, to.name);
    [hook, Request::new(RouteNetlinkMessage::NewTrafficFilter(filter), flags, act)]
}

/// The kind of the hook that sees what `dev` receives, if it has one: `ingress`, or `clsact`, which sees what it sends too.
pub fn hook(nl: &mut Netlink, dev: &Dev) -> Result<Option<String>> {
    let mut kinds = list(nl, dev)?.into_iter().map(|qdisc| qdisc.kind);
    Ok(kinds.find(|kind| ["ingress", "clsact"].contains(&kind.as_str())))
}

/// Whether a filter at the hook sends what `dev` receives through the link `to`.
pub fn redirects(nl: &mut Netlink, dev: &Dev, to: LinkIndex) -> Result<bool> {
    let message = on(dev.index, TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS });
    let act = format!("list filters of {}", dev.name);
    let replies = nl.dump(&RouteNetlinkMessage::GetTrafficFilter(message), &act)?;
    Ok(replies.iter().any(|reply| match reply {
        RouteNetlinkMessage::NewTrafficFilter(filter) => leads_to(filter, to),
        _ => false,
    }))
}

fn leads_to(filter: &TcMessage, to: LinkIndex) -> bool {
    let options = filter.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let actions = options.flatten().filter_map(|option| match option {
        TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
        _ => None,
    });
    actions.flatten().flat_map(|action| &action.attributes).any(|attribute| match attribute {
        TcActionAttribute::Options(options) => options.iter().any(|option| {
            matches!(option, TcActionOption::Mirror(TcActionMirrorOption::Parms(it)) if it.ifindex == to.into())
        }),
        _ => false,
    })
}

/// Takes the ingress hook with all its filters off `dev`; accepts that it has none.
pub fn remove_ingress(dev: &Dev) -> Request {
    let act = format!("remove ingress hook from {}", dev.name);
    let request = Request::new(RouteNetlinkMessage::DelQueueDiscipline(on(dev.index, INGRESS)), 0, act);
    request.ok_if_missing()
}

fn on(link: LinkIndex, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::default();
    message.header = TcHeader { index: u32::from(link).cast_signed(), parent, ..TcHeader::default() };
    message
}

/// A key with an empty mask: matches every packet.
fn everything() -> TcU32Selector {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys = vec![TcU32Key::default()];
    selector
}

fn redirect(to: LinkIndex) -> TcAction {
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to.into();
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
    ];
    action
}

/// `struct tc_tbf_qopt` and its companions (include/uapi/linux/pkt_sched.h).
fn encode(bucket: &TokenBucket) -> Vec<TcOption> {
    let TokenBucket { rate, burst, limit } = *bucket;
    let mut parms = Vec::with_capacity(PARMS);
    // struct tc_ratespec of the rate: the linklayer set, or the kernel looks for a table to guess it from.
    parms.extend([0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0]);
    parms.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    // That of the peak rate: none.
    parms.extend([0; 12]);
    parms.extend(limit.to_ne_bytes());
    parms.extend(ticks(rate, burst).to_ne_bytes());
    parms.extend([0; 4]);
    let mut options = vec![option(TCA_TBF_PARMS, parms), option(TCA_TBF_BURST, burst.to_ne_bytes().to_vec())];
    if rate > u64::from(u32::MAX) {
        options.push(option(TCA_TBF_RATE64, rate.to_ne_bytes().to_vec()));
    }
    options
}

fn option(kind: u16, value: Vec<u8>) -> TcOption {
    TcOption::Other(DefaultNla::new(kind, value))
}

/// How long the burst takes at the rate, in units of 64 ns (`PSCHED_SHIFT`).
fn ticks(rate: u64, burst: u32) -> u32 {
    let nanoseconds = u128::from(burst) * 1_000_000_000 / u128::from(rate.max(1));
    u32::try_from(nanoseconds / TICK).unwrap_or(u32::MAX)
}

/// The queueing disciplines of a link.
pub fn list(nl: &mut Netlink, dev: &Dev) -> Result<Vec<Qdisc>> {
    let message = on(dev.index, TcHandle::default());
    let act = format!("list queueing disciplines of {}", dev.name);
    let replies = nl.dump(&RouteNetlinkMessage::GetQueueDiscipline(message), &act)?;
    let qdiscs = replies.into_iter().filter_map(decode);
    Ok(qdiscs.filter(|qdisc| qdisc.link == dev.index).collect())
}

fn decode(message: RouteNetlinkMessage) -> Option<Qdisc> {
    let RouteNetlinkMessage::NewQueueDiscipline(message) = message else { return None };
    let (mut kind, mut bucket) = (String::new(), None);
    for attribute in message.attributes {
        match attribute {
            TcAttribute::Kind(name) => kind = name,
            TcAttribute::Options(options) if kind == TBF => bucket = decode_bucket(&options),
            _ => {}
        }
    }
    Some(Qdisc { link: message.header.index.cast_unsigned().into(), kind, bucket })
}

/// The netlink crate knows no token bucket, and hands over its options in one piece.
fn decode_bucket(options: &[TcOption]) -> Option<TokenBucket> {
    let whole = options.first()?;
    let mut bytes = vec![0; whole.value_len()];
    whole.emit_value(&mut bytes);
    let value = |wanted| {
        let mut attributes = NlasIterator::new(&bytes).map_while(Result::ok);
        attributes.find(|attribute| attribute.kind() == wanted).map(|attribute| attribute.value().to_vec())
    };
    let parms = value(TCA_TBF_PARMS).filter(|parms| parms.len() >= PARMS)?;
    let field = |at: usize| parms[at..].first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let wide = value(TCA_TBF_RATE64).and_then(|bytes| Some(u64::from_ne_bytes(*bytes.first_chunk()?)));
    let rate = wide.or_else(|| field(8).map(u64::from))?;
    let burst = u128::from(field(28)?) * TICK * u128::from(rate) / 1_000_000_000;
    Some(TokenBucket { rate, burst: u32::try_from(burst).unwrap_or(u32::MAX), limit: field(24)? })
}

const TBF: &str = "tbf";
/// `TC_H_INGRESS`.
const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0xfff1 };
/// Priority 1 in the upper half, `ETH_P_ALL` in network order in the lower.
const FIRST_FOR_ALL_PROTOCOLS: u32 = 1 << 16 | (3_u16.to_be() as u32);
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const PARMS: usize = 36;
const LINKLAYER_ETHERNET: u8 = 1;
const TICK: u128 = 64;

//! What `netctl` and the agent on a node say to each other: one JSON object a line, requests one way, replies and
//! events the other. An unknown request is refused, an unknown key ignored, so either side may be the older one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{hex, place::Place};
use crate::{
    doctor::Wire,
    facts::tunnel,
    graph::model::Told,
    knock::Knocked,
    lookup::LookedUp,
    reach::Reached,
    throughput::{End, Measured},
    trace::{
        counters::Counters,
        passage::{Passage, Passing},
        probe::Protocol,
    },
    verb::ps::Row,
};

/// Raised when an old agent would misunderstand.
pub const VERSION: u32 = 2;

/// A request with the number that its reply will have.
#[derive(Debug, Serialize, Deserialize)]
pub struct Numbered {
    pub id: u64,
    pub request: Request,
}

/// What a node is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Who are you?
    Hello,
    /// What does this selector mean to you?
    Resolve(String),
    /// Which of your namespaces has this address? `foreign` ones belong to other nodes.
    Locate { address: IpAddr, foreign: Vec<u32> },
    /// What is the time?
    Clock,
    /// Report every packet with this mark, until the end.
    Observe(Observe),
    /// What do the kernel's counters of errors say in these namespaces?
    Counters(Vec<Place>),
    /// Send probes.
    Send(SendProbes),
    /// Report every dropped packet; in all namespaces of the node when none are named.
    WatchDrops { places: Option<Vec<Place>>, foreign: Vec<u32> },
    /// What is attached to networks?
    Attachments,
    /// What does a verb that only looks say of you, which the asker calls `node`? `words` are its command line.
    Look { node: String, words: Vec<String> },
    /// All that is to be known of you, for a ticket.
    Report,
    /// What is wrong?
    Examine,
    /// What does a picture show of you?
    Draw,
    /// Do these answer from that namespace, or your own?
    Reach { from: Option<PathBuf>, to: Vec<IpAddr> },
    /// Do these ports of these answer from that namespace?
    Knock { from: PathBuf, to: Vec<IpAddr>, ports: Vec<Protocol> },
    /// What addresses do these names have there, by its own resolv.conf?
    LookUp { from: PathBuf, names: Vec<String> },
    /// Serve measurements there, until the end.
    Serve { on: PathBuf, address: IpAddr },
    /// How much passes from there to who serves?
    Measure { from: PathBuf, to: SocketAddr, milliseconds: u64 },
    /// What would one of your namespaces do with a packet?
    Pass(Box<Passing>),
    /// Report every packet of these namespaces.
    Capture { places: Vec<CapturePlace>, filter: String, snaplen: u32 },
}

/// Where to look for a probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observe {
    pub mark: String,
    /// Namespaces to watch closely, with nftables' decisions.
    pub places: Vec<Place>,
    /// Watch the namespaces that our veth devices lead to as well, not only those of known containers.
    pub neighbours: bool,
    /// Namespaces of other nodes on the same kernel.
    pub foreign: Vec<u32>,
    /// Do as if there were no BPF.
    pub without_bpf: bool,
}

/// Which probes to send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SendProbes {
    pub mark: String,
    pub from: Place,
    /// Chosen by the kernel's routes if not given.
    pub source: Option<IpAddr>,
    pub destination: IpAddr,
    pub protocol: Protocol,
    pub count: u8,
    /// Bytes behind the transport header.
    pub payload: usize,
    pub interval_ms: u64,
    /// How long to wait for answers after the last.
    pub patience_ms: u64,
}

/// A namespace whose packets are captured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CapturePlace {
    pub place: Place,
    /// One device; none is all of them.
    pub device: Option<String>,
}

/// A line from the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The answer to a request.
    Reply { id: u64, reply: Reply },
    /// A request that could not be carried out.
    Refused { id: u64, error: String },
    /// Something happened.
    Event(Event),
}

/// The answer to a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Hello {
        version: u32,
        host_name: String,
        own: Place,
    },
    /// With the addresses that others can reach it by.
    Place {
        place: Option<Place>,
        addresses: Vec<IpAddr>,
    },
    /// CLOCK_MONOTONIC.
    Clock {
        now_ns: u64,
    },
    /// By name of the namespace.
    Counters(BTreeMap<String, Counters>),
    /// It is under way. `limits` says what this node cannot see, and why.
    Started {
        limits: Vec<String>,
    },
    Attachments(Vec<Row>),
    Looked(Looked),
    Report(Box<serde_json::Value>),
    Examined(Box<Examined>),
    Told(Box<Told>),
    Reached(Vec<Reached>),
    Knocked(Vec<Knocked>),
    LookedUp(Vec<LookedUp>),
    Passed(Box<Passage>),
    Serving {
        port: u16,
        end: End,
    },
    Measured(Measured),
}

/// What a verb says of a node, without what it says of all nodes alike.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Looked {
    pub items: Vec<serde_json::Value>,
    pub names: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// All is as it should be.
    pub well: bool,
    /// Names in the words that mean nothing here.
    pub unknown: Vec<String>,
    /// What could not be looked at, and why.
    pub blind: Vec<String>,
}

/// What is wrong on a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Examined {
    pub report: tunnel::Report,
    pub findings: Vec<Wire>,
    /// What could not be looked at, and why.
    pub blind: Vec<String>,
}

/// Something that happened on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A packet was somewhere.
    Seen(Seen),
    /// A rule of nftables, or a chain's policy, decided about a packet.
    Decided(Decided),
    /// A probe went out, or could not.
    Sent { number: u8, time_ns: u64, source: IpAddr, port: u16, error: Option<String> },
    /// An answer to a probe reached the sender.
    Answered(Answered),
    /// No more answers are waited for.
    SendingEnded,
    /// So many packets of a namespace found no room and are missing; counts from the start.
    Missed { netns: String, packets: u64 },
    /// A whole packet, for a capture file.
    Captured(Captured),
    /// What was under way has ended for this reason.
    Failed(String),
}

/// A packet at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub at: At,
    pub time_ns: u64,
    /// Name of the namespace.
    pub netns: String,
    /// Empty before a packet has a device.
    pub device: String,
    /// The kernel's buffer, which tells packets apart for a while; 0 if it is not known.
    pub buffer: u64,
    /// `NETFILTER_DROP`; drops only.
    pub reason: Option<String>,
    /// Where in the kernel a drop or an end happened, as `function+0xoffset`.
    pub function: Option<String>,
    pub protocol: u16,
    /// From the network header on.
    #[serde(with = "hex")]
    pub bytes: Vec<u8>,
    /// Bytes from there to the end of the packet.
    pub len: u32,
}

/// What happened to a packet at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    Rx,
    Tx,
    Drop,
    /// It reached its end in good order.
    End,
}

/// A decision of nftables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub time_ns: u64,
    pub netns: String,
    pub dropped: bool,
    /// `ip filter FORWARD handle 7: ip daddr 10.0.0.9 drop`; `… policy drop` for a chain's policy.
    pub rule: String,
    #[serde(with = "hex")]
    pub bytes: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    pub number: u8,
    pub time_ns: u64,
    pub kind: Answer,
    pub from: IpAddr,
    /// In words.
    pub packet: String,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Echo reply, SYN-ACK, a datagram.
    Reply,
    /// A reset.
    Reset,
    /// An ICMP error.
    Error,
}

/// A captured packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    pub netns: String,
    pub device: String,
    /// Whether the device sent it.
    pub outgoing: bool,
    /// Begins with an Ethernet header, else with an IP header.
    pub ethernet: bool,
    /// Length on the wire; more than there are bytes when cut.
    pub len: u32,
    #[serde(with = "hex")]
    pub bytes: Vec<u8>,
}

//! Programs many peers into a namespace of its own, three ways by turns: the agent's keeper, a plain batched netlink writer
//! that makes the same messages of the same list and sends them, and one message an acknowledgement with one metric for all (what
//! flannel does). As root, and so that nothing else of the machine gets in between:
//! `chrt -f 50 target/release/examples/peers 10000 60000`. Times are medians, the ratio is the median of those of pairs of
//! runs, one after the other.

use std::{
    hint::black_box,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use ipnetwork::IpNetwork;
use kernel::{
    fdb, link,
    link::LinkIndex,
    mac::MacAddr,
    neighbour,
    netlink::{Netlink, Request},
    route::{self, Route},
    veth,
};
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use overlay::{
    definition::Definition,
    desired,
    family::PerFamily,
    host::underlay::Wanted,
    keeper::{Dirs, Keeper},
    mac::MacText,
    machine::{Event, Update},
    peer::{Candidate, Candidates, Record},
    state::Standing,
};

/// One peer in numbers.
#[derive(Clone, Copy)]
struct Numbered(u32);

impl Numbered {
    fn subnet(self) -> IpNetwork {
        let first = Ipv4Addr::from(u32::from(Ipv4Addr::new(16, 0, 0, 0)) + (self.0 << 8));
        IpNetwork::new(first.into(), 24).expect("24 is a prefix length")
    }

    fn underlay(self) -> IpAddr {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16, 0, 0)) + self.0).into()
    }

    fn mac(self) -> MacAddr {
        let [a, b, c, d] = self.0.to_be_bytes();
        MacAddr([2, 1, a, b, c, d])
    }
}

fn main() -> Result<()> {
    let counts: Vec<u32> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let counts = if counts.is_empty() { vec![10_000, 60_000] } else { counts };
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:>7}  {:>12} {:>12} {:>12} {:>7}  {:>14} {:>9}  {:>9} {:>8}",
        "peers",
        "keeper",
        "plain batch",
        "(encoding)",
        "ratio",
        "ack a message",
        "x slower",
        "no change",
        "RSS"
    )?;
    for count in counts {
        let rounds = if count > 20_000 { 5 } else { 9 };
        let (mut keeper, mut plain, mut encoding) = (Vec::new(), Vec::new(), Vec::new());
        let (mut again, mut ratios) = (Vec::new(), Vec::new());
        let mut memory = 0;
        for round in 0..rounds {
            let first = if round % 2 == 0 { None } else { Some(in_namespace(move || with_batches(count))?) };
            let run = in_namespace(move || with_keeper(count))?;
            let batches = match first {
                Some(took) => took,
                None => in_namespace(move || with_batches(count))?,
            };
            keeper.push(run.took);
            plain.push(batches.took);
            encoding.push(batches.encoding);
            again.push(run.again);
            ratios.push(ms(run.took) / ms(batches.took));
            memory = memory.max(run.memory);
        }
        ratios.sort_by(f64::total_cmp);
        let (keeper, plain, again) = (median(keeper), median(plain), median(again));
        let encoding = median(encoding);
        let slow = if count > 10_000 { None } else { Some(in_namespace(move || one_by_one(count))?) };
        let (slow, times) = match slow {
            Some(slow) => (format!("{:.0} ms", ms(slow)), format!("{:.0}x", ms(slow) / ms(keeper))),
            None => ("(minutes)".into(), String::new()),
        };
        writeln!(
            out,
            "{count:>7}  {:>9.0} ms {:>9.0} ms {:>9.0} ms {:>7.2}  {slow:>14} {times:>9}  {:>6.0} ms {:>5} MB",
            ms(keeper),
            ms(plain),
            ms(encoding),
            ratios[ratios.len() / 2],
            ms(again),
            memory / 1024
        )?;
    }
    Ok(())
}

struct Run {
    took: Duration,
    /// A second reconciliation that finds nothing to do, dump included.
    again: Duration,
    /// KiB.
    memory: u64,
}

struct Batches {
    took: Duration,
    /// Before the first byte was sent.
    encoding: Duration,
}

/// From a snapshot in memory to a kernel that holds it: admission, desired objects, dump, diff, messages, writing.
fn with_keeper(count: u32) -> Result<Run> {
    let definition: Definition = serde_json::from_str(r#"{"name":"bench","vni":7,"pools":["16.0.0.0/4"]}"#)?;
    // Of this run alone: what another one knew would be no news.
    let files = std::env::temp_dir().join(format!("tenon-peers-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&files);
    let dirs = Dirs { run: files.join("run"), lib: files.join("lib") };
    let mut now = Instant::now();
    let wanted = Wanted { address: Some(UNDERLAY.into()), ..Wanted::default() };
    let mut keeper = Keeper::open(definition, "us".parse()?, wanted, dirs, now)?;
    keeper.start(now);
    keeper.handle(Event::Standing(Standing::Owner { subnets: vec!["31.0.0.0/24".parse()?] }), now);
    now = settle(&mut keeper, now);
    let listing = candidates(count);
    let start = Instant::now();
    keeper.handle(Event::Directory(Update::Snapshot(listing)), now);
    now = settle(&mut keeper, now);
    let took = start.elapsed();
    keeper.take_news(now);
    let actual = keeper.dump()?.unwrap_or_default();
    let (wanted, left) = (keeper.machine().desired().len(), keeper.machine().difference(&actual).len());
    if wanted != usize::try_from(count)? * 3 || left != 0 {
        bail!("{wanted} objects, {left} missing");
    }
    let start = Instant::now();
    keeper.handle(Event::Overrun, now);
    settle(&mut keeper, now);
    std::fs::remove_dir_all(&files).context("remove the keeper's files")?;
    Ok(Run { took, again: start.elapsed(), memory: resident()? })
}

fn settle(keeper: &mut Keeper, mut now: Instant) -> Instant {
    // The machine's clock is turned by hand, up to but not including the write of the file of last known peers.
    let end = now + Duration::from_millis(200);
    while let Some(deadline) = keeper.machine().deadline().filter(|deadline| *deadline <= end) {
        now = now.max(deadline);
        keeper.handle(Event::Wake, now);
    }
    now
}

fn candidates(count: u32) -> Candidates {
    let candidate = |number: u32| {
        let peer = Numbered(number);
        let record = Record {
            node: format!("h{number}").parse().expect("a node's name"),
            underlay: PerFamily { v4: Some(peer.underlay()), v6: None },
            subnets: vec![peer.subnet()],
            mac: PerFamily { v4: Some(MacText(peer.mac())), v6: None },
        };
        (format!("h{number}"), Candidate { rank: number.into(), record: Ok(record) })
    };
    (1..=count).map(candidate).collect()
}

fn device() -> Result<LinkIndex> {
    let mut nl = Netlink::open()?;
    let options = kernel::vxlan::Options {
        vni: 7,
        port: 4789,
        local: Some(UNDERLAY.into()),
        dev: None,
        learning: false,
    };
    let made = link::create(&mut nl, kernel::vxlan::add(link::new("ovl7"), &options), "ovl7")?;
    nl.execute(link::change(&made.dev()).up().request())?;
    Ok(made.index)
}

fn requests(count: u32, device: LinkIndex, metric: impl Fn(IpNetwork) -> u32) -> Vec<Request> {
    let peers = || (1..=count).map(Numbered);
    let neighbours = peers().map(|peer| {
        neighbour::replace(&neighbour::Neighbour::permanent(device, peer.subnet().network(), peer.mac(), 116))
    });
    let entries = peers().map(|peer| fdb::replace(&fdb::Entry::behind(device, peer.mac(), peer.underlay())));
    let routes = peers().map(|peer| {
        route::replace(&Route {
            gateway: Some(peer.subnet().network()),
            dev: Some(device),
            priority: Some(metric(peer.subnet())),
            protocol: 116,
            onlink: true,
            ..Route::to(peer.subnet())
        })
    });
    neighbours.chain(entries).chain(routes).collect()
}

/// What is compared with: from the list of peers to the same messages, 1000 a send, one acknowledgement for each send. It
/// checks nothing, knows nothing of what is there, and hears of no change.
fn with_batches(count: u32) -> Result<Batches> {
    const FLAGS: u16 = 0x1 | 0x400 | 0x100;
    let device = device()?;
    let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
    socket.bind_auto()?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SndBufForce, &(4 << 20))?;
    let mut answer = vec![0; 64 << 10];
    let start = Instant::now();
    let messages = requests(count, device, desired::metric);
    let batches: Vec<Vec<u8>> = messages
        .chunks(1000)
        .map(|batch| {
            let mut bytes = Vec::new();
            for (index, request) in batch.iter().enumerate() {
                let ack = if index + 1 == batch.len() { 0x4 } else { 0 };
                serialize(&mut bytes, request.message().clone(), FLAGS | ack);
            }
            bytes
        })
        .collect();
    let encoding = start.elapsed();
    for batch in &batches {
        socket.send(batch, 0)?;
        let length = socket.recv(&mut &mut answer[..], 0)?;
        let error = answer.get(16..20).filter(|_| length >= 20).context("a short acknowledgement")?;
        if error != [0; 4] {
            bail!("the kernel refused a message: {error:?} on {}", socket.as_raw_fd());
        }
    }
    Ok(Batches { took: start.elapsed(), encoding })
}

fn serialize(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len(), 0);
    message.serialize(&mut bytes[start..]);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A new socket and an acknowledgement for each message, one metric for all routes.
fn one_by_one(count: u32) -> Result<Duration> {
    let device = device()?;
    let messages = requests(count, device, |_| 0);
    let start = Instant::now();
    for request in messages {
        Netlink::open()?.execute(black_box(request))?;
    }
    Ok(start.elapsed())
}

/// Runs `work` on a thread in a new network namespace with an uplink.
fn in_namespace<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let inside = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .context("new network namespace (needs root)")?;
        let mut nl = Netlink::open()?;
        nl.execute(veth::add(link::new("eth0"), link::new("far0")))?;
        for name in ["lo", "eth0", "far0"] {
            nl.execute(link::change_named(name).up().request())?;
        }
        let uplink = link::by_name(&mut nl, "eth0")?.dev();
        let address = IpNetwork::new(UNDERLAY.into(), 24)?;
        nl.execute(kernel::address::add(&uplink, address, kernel::address::Dad::Skip))?;
        let done = work();
        // Here and now, or the kernel does it in its own time: while the next one is measured.
        if let Some(tunnel) = link::find(&mut nl, "ovl7")? {
            nl.execute(link::remove(&tunnel.dev()))?;
        }
        done
    };
    std::thread::scope(|scope| scope.spawn(inside).join().map_err(|_| anyhow::anyhow!("panic"))?)
}

fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

const UNDERLAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

//! Toward scale: hundreds of agents' cores against one real etcd, each with a kernel in memory. Prints what every event
//! costs in time, requests and bytes a host, as a table and an SVG. `simulate SVG-FILE [HOSTS...]`; needs `etcd` in PATH.

use std::{
    cell::RefCell,
    fmt::Write as _,
    io::Write as _,
    process::{Child, Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use overlay::{
    config::EtcdConfig,
    definition::Definition,
    diff::Actual,
    directory::{Directory, Listing, Watched, etcd::Etcd},
    machine::{Action, Event, Machine, Underlay, Update},
    names::Mtu,
    onlink::Neighbourhood,
    peer::Record,
    state::Standing,
};
use serde_json::json;
use tokio::{sync::mpsc, task::LocalSet};

/// A host: the core, a kernel that obeys, and the directory's client.
struct Host {
    machine: Machine,
    kernel: Actual,
    record: Option<Record>,
    owned: Vec<ipnetwork::IpNetwork>,
    messages: u64,
}

/// One row of the table.
struct Row {
    hosts: usize,
    event: &'static str,
    took: Duration,
    requests: f64,
    bytes: f64,
    messages: f64,
}

/// What all hosts have done so far.
#[derive(Clone, Copy, Default)]
struct Totals {
    requests: u64,
    bytes: u64,
    messages: u64,
}

/// What the scene asks of a host.
enum Order {
    /// Its address changes.
    Move(std::net::IpAddr),
}

struct Fleet {
    hosts: Vec<Rc<RefCell<Host>>>,
    traffic: Vec<Rc<RefCell<(u64, u64)>>>,
    orders: Vec<mpsc::Sender<Order>>,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let svg = arguments.next().context("usage: simulate SVG-FILE [HOSTS...]")?;
    let sizes: Vec<usize> = arguments.map(|text| text.parse()).collect::<Result<_, _>>()?;
    let sizes = if sizes.is_empty() { vec![50, 100, 200] } else { sizes };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:>6}  {:<34} {:>9} {:>10} {:>12} {:>12}",
        "hosts", "event", "all know", "requests", "bytes", "messages"
    )?;
    writeln!(out, "{:>6}  {:<34} {:>9} {:>10} {:>12} {:>12}", "", "", "", "a host", "a host", "to kernel")?;
    for size in sizes {
        let dir = std::env::temp_dir().join(format!("tenon-simulate-{}-{size}", std::process::id()));
        let server = Server::start(&dir)?;
        let found = LocalSet::new().block_on(&runtime, scene(size))?;
        drop(server);
        std::fs::remove_dir_all(&dir)?;
        for row in &found {
            let Row { hosts, event, took, requests, bytes, messages } = row;
            writeln!(
                out,
                "{hosts:>6}  {event:<34} {:>6.0} ms {requests:>10.1} {bytes:>12.0} {messages:>12.1}",
                ms(*took)
            )?;
        }
        rows.extend(found);
    }
    std::fs::write(&svg, picture(&rows)).with_context(|| format!("write {svg}"))
}

async fn scene(size: usize) -> Result<Vec<Row>> {
    let fleet = Fleet::new(size)?;
    let mut rows = Vec::new();
    rows.push(fleet.measure("all join at once (1 s of grace)", |fleet| fleet.complete()).await?);
    let movers: Vec<usize> = (0..size).step_by(10).collect();
    for index in &movers {
        fleet.orders[*index].send(Order::Move(address(index + 10_000))).await?;
    }
    let event = "a tenth changes its address";
    rows.push(
        fleet
            .measure(event, |fleet| {
                movers.iter().all(|index| fleet.all_reach(*index, address(index + 10_000)))
            })
            .await?,
    );
    compact()?;
    fleet.orders[0].send(Order::Move(address(20_000))).await?;
    rows.push(
        fleet.measure("one moves after a compaction", |fleet| fleet.all_reach(0, address(20_000))).await?,
    );
    Ok(rows)
}

impl Fleet {
    fn new(size: usize) -> Result<Self> {
        let mut fleet = Self { hosts: Vec::new(), traffic: Vec::new(), orders: Vec::new() };
        for index in 0..size {
            let host = Rc::new(RefCell::new(Host::new(index)?));
            let traffic = Rc::new(RefCell::new((0, 0)));
            let (order, orders) = mpsc::channel(4);
            let etcd = Etcd::open(&definition()?, &config()?, name(index).parse()?)?;
            tokio::task::spawn_local(live(Rc::clone(&host), etcd, orders, Rc::clone(&traffic)));
            fleet.hosts.push(host);
            fleet.traffic.push(traffic);
            fleet.orders.push(order);
        }
        Ok(fleet)
    }

    fn complete(&self) -> bool {
        let others = self.hosts.len() - 1;
        self.hosts.iter().all(|host| {
            let host = host.borrow();
            host.machine.peers().len() == others && host.kernel.routes.len() == others
        })
    }

    /// Whether every other host's kernel sends to `index` at `address`.
    fn all_reach(&self, index: usize, address: std::net::IpAddr) -> bool {
        let others = self.hosts.iter().enumerate().filter(|(other, _)| *other != index);
        others
            .map(|(_, host)| host.borrow())
            .all(|host| host.kernel.fdb.values().any(|found| found.contains(&address)))
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (host, traffic) in self.hosts.iter().zip(&self.traffic) {
            let (requests, bytes) = *traffic.borrow();
            totals.requests += requests;
            totals.bytes += bytes;
            totals.messages += host.borrow().messages;
        }
        totals
    }

    async fn measure(&self, event: &'static str, done: impl Fn(&Self) -> bool) -> Result<Row> {
        let (start, before) = (Instant::now(), self.totals());
        while !done(self) {
            if start.elapsed() > PATIENCE {
                bail!("{event}: not done after {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (took, after) = (start.elapsed(), self.totals());
        let hosts = self.hosts.len();
        let a_host = |number: u64| number as f64 / hosts as f64;
        Ok(Row {
            hosts,
            event,
            took,
            requests: a_host(after.requests - before.requests),
            bytes: a_host(after.bytes - before.bytes),
            messages: a_host(after.messages - before.messages),
        })
    }
}

impl Host {
    fn new(index: usize) -> Result<Self> {
        let now = Instant::now();
        let mut host = Self {
            machine: Machine::new(definition()?, name(index).parse()?, now),
            kernel: Actual::default(),
            record: None,
            owned: Vec::new(),
            messages: 0,
        };
        host.handle(Event::Underlay(Some(underlay(address(index))?)));
        Ok(host)
    }

    fn handle(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.machine.handle(event, Instant::now()) {
                match action {
                    Action::Device(_) => events.push(Event::Device(Ok(7))),
                    Action::Dump => events.push(Event::Dumped(Ok(self.kernel.clone()))),
                    Action::Write(changes) => {
                        self.messages += changes.len() as u64;
                        changes.iter().for_each(|change| self.kernel.apply(*change));
                        events.push(Event::Written(Vec::new()));
                    }
                    Action::Publish(record) => self.record = Some(record),
                    _ => {}
                }
            }
        }
    }
}

/// An agent's life, with the shell's rules: list, claim, watch, and again after an error.
async fn live(
    host: Rc<RefCell<Host>>,
    mut etcd: Etcd,
    mut orders: mpsc::Receiver<Order>,
    traffic: Rc<RefCell<(u64, u64)>>,
) {
    loop {
        if session(&host, &mut etcd, &mut orders, &traffic).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn session(
    host: &RefCell<Host>,
    etcd: &mut Etcd,
    orders: &mut mpsc::Receiver<Order>,
    traffic: &RefCell<(u64, u64)>,
) -> Result<(), overlay::directory::DirectoryError> {
    let Listing { candidates, .. } = etcd.list().await?;
    host.borrow_mut().handle(Event::Directory(Update::Snapshot(candidates)));
    claim(host, etcd).await?;
    loop {
        *traffic.borrow_mut() = (etcd.calls(), etcd.bytes());
        let deadline =
            host.borrow().machine.deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
        // Whoever owns nothing looks again, as the agent does.
        let deadline =
            if host.borrow().owned.is_empty() { deadline.min(Instant::now() + AGAIN) } else { deadline };
        tokio::select! {
            watched = etcd.watch() => match watched? {
                Watched::Everything => return Ok(()),
                Watched::Changes(changes) => {
                    host.borrow_mut().handle(Event::Directory(Update::Changes(changes)));
                }
            },
            Some(Order::Move(to)) = orders.recv() => {
                if let Ok(underlay) = underlay(to) {
                    host.borrow_mut().handle(Event::Underlay(Some(underlay)));
                    tokio::time::sleep(overlay::machine::COALESCE).await;
                    host.borrow_mut().handle(Event::Wake);
                }
            }
            () = tokio::time::sleep_until(deadline.into()) => host.borrow_mut().handle(Event::Wake),
        }
        claim(host, etcd).await?;
    }
}

async fn claim(host: &RefCell<Host>, etcd: &mut Etcd) -> Result<(), overlay::directory::DirectoryError> {
    let (record, owned) = {
        let host = host.borrow();
        (host.record.clone(), host.owned.clone())
    };
    let standing = etcd.claim(record.as_ref(), &owned).await?;
    let mut host = host.borrow_mut();
    if let Standing::Owner { subnets } = &standing {
        host.owned.clone_from(subnets);
    }
    host.handle(Event::Standing(standing));
    Ok(())
}

fn definition() -> Result<Definition> {
    Ok(serde_json::from_str(r#"{"name":"sim","vni":7,"pools":["16.0.0.0/8"]}"#)?)
}

fn config() -> Result<EtcdConfig> {
    Ok(serde_json::from_value(
        json!({"endpoints": [format!("http://127.0.0.1:{PORT}")], "grace": 1, "alive": 60}),
    )?)
}

fn name(index: usize) -> String {
    format!("h{index}")
}

fn address(index: usize) -> std::net::IpAddr {
    let number = u32::try_from(index).unwrap_or(u32::MAX);
    std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(172, 16, 0, 1)) + number).into()
}

fn underlay(address: std::net::IpAddr) -> Result<Underlay> {
    Ok(Underlay {
        name: "eth0".into(),
        index: 2,
        mtu: Mtu::try_from(1500)?,
        up: true,
        address,
        around: Neighbourhood::default(),
        addresses: [address].into(),
    })
}

fn compact() -> Result<()> {
    let url = format!("--endpoints=http://127.0.0.1:{PORT}");
    let ctl = |argv: &[&str]| Command::new("etcdctl").env("ETCDCTL_API", "3").arg(&url).args(argv).output();
    let status: serde_json::Value = serde_json::from_slice(&ctl(&["get", "x", "-w", "json"])?.stdout)?;
    let done = ctl(&["compact", &status["header"]["revision"].to_string()])?;
    if done.status.success() {
        Ok(())
    } else {
        bail!("etcdctl compact: {}", String::from_utf8_lossy(&done.stderr))
    }
}

struct Server(Child);

impl Server {
    fn start(dir: &std::path::Path) -> Result<Self> {
        let (clients, peers) = (format!("http://127.0.0.1:{PORT}"), format!("http://127.0.0.1:{}", PORT + 1));
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(dir)
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start etcd (package etcd-server)")?;
        let server = Self(child);
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", PORT)).is_err() {
            if start.elapsed() > PATIENCE {
                bail!("etcd does not listen");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bar for each row: how long until every host knew.
fn picture(rows: &[Row]) -> String {
    let longest = rows.iter().map(|row| ms(row.took)).fold(1.0, f64::max);
    let mut bars = String::new();
    for (row, y) in rows.iter().zip((40..).step_by(26)) {
        let width = 420.0 * ms(row.took) / longest;
        let _ = write!(
            bars,
            r##"<text x="10" y="{}">{} hosts: {}</text><rect x="330" y="{}" width="{width:.1}" height="16" fill="#4a7"/><text x="{:.1}" y="{}">{:.0} ms</text>"##,
            y + 13,
            row.hosts,
            row.event,
            y,
            336.0 + width,
            y + 13,
            ms(row.took)
        );
    }
    let height = 60 + 26 * rows.len();
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="840" height="{height}" font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/><text x="10" y="24" font-size="15">Until every host's kernel knew, one etcd</text>{bars}</svg>
"##
    )
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

const PORT: u16 = 23_790;
const PATIENCE: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_millis(250);

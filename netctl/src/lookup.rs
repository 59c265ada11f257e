//! A name looked up as a container's resolver does it: by its own resolv.conf(5), from its namespace. Knows no node, and no hosts(5).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde::{Deserialize, Serialize};

use crate::{agent::place::Place, facts::space::processes};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LookedUp {
    pub name: String,
    /// The resolv.conf.
    pub file: PathBuf,
    /// Who answered.
    pub server: Option<IpAddr>,
    pub addresses: Vec<IpAddr>,
    /// From the last question to its answer.
    pub rtt_us: Option<u64>,
    /// Why there are no addresses.
    pub error: Option<String>,
}

/// One after the other, as the resolver of `from` would.
pub fn all(from: &Place, names: &[String]) -> anyhow::Result<Vec<LookedUp>> {
    let (file, text) = configuration(from)?;
    let resolver = Resolver::parse(&text);
    from.run(|| names.iter().map(|name| resolver.look_up(name, &file)).collect())
}

/// That of a process inside, else the one that `ip netns exec` shows to what it starts there (ip-netns(8)), else the host's, which it
/// leaves in place.
fn configuration(of: &Place) -> anyhow::Result<(PathBuf, String)> {
    let mut inside = processes(of).into_iter().map(|pid| PathBuf::from(format!("/proc/{pid}/root")));
    let found = inside.find_map(|root| Some((root.join(RESOLV_CONF), read_below(&root).ok()?)));
    let named = || {
        let file = Path::new("/etc/netns").join(of.path.file_name()?).join("resolv.conf");
        Some((file.clone(), fs::read_to_string(file).ok()?))
    };
    if let Some(found) = found.or_else(named) {
        return Ok(found);
    }
    let file = Path::new("/").join(RESOLV_CONF);
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    Ok((file, text))
}

/// Links lead to where they do for who has this root.
fn read_below(root: &Path) -> io::Result<String> {
    let root = File::open(root)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat2(&root, RESOLV_CONF, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    io::read_to_string(File::from(file))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Resolver {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    /// A name with as many dots is tried as it is first.
    ndots: usize,
}

/// Addresses and who gave them, and after how many microseconds; none if there is no such name.
type Answer = (IpAddr, Vec<IpAddr>, u64);

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut resolver = Self { ndots: 1, ..Self::default() };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                // The C library reads three.
                Some("nameserver") if resolver.servers.len() < 3 => {
                    resolver.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                // The last of them counts.
                Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let ndots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    resolver.ndots = ndots.unwrap_or(resolver.ndots);
                }
                _ => {}
            }
        }
        if resolver.servers.is_empty() {
            resolver.servers.push([127, 0, 0, 1].into());
        }
        resolver
    }

    /// What is asked for in turn.
    fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{name}.{}.", domain.trim_end_matches('.')));
        let as_is = [format!("{name}.")].into_iter();
        match name.matches('.').count() >= self.ndots {
            true => as_is.chain(searched).collect(),
            false => searched.chain(as_is).collect(),
        }
    }

    fn look_up(&self, name: &str, file: &Path) -> LookedUp {
        let nothing = LookedUp {
            name: name.to_owned(),
            file: file.to_owned(),
            server: None,
            addresses: Vec::new(),
            rtt_us: None,
            error: None,
        };
        // Who failed once is not asked again.
        let mut failed = BTreeMap::new();
        for candidate in self.candidates(name) {
            match self.ask_all(&candidate, &mut failed) {
                Ok(Some((server, addresses, rtt_us))) => {
                    return LookedUp { server: Some(server), addresses, rtt_us: Some(rtt_us), ..nothing };
                }
                Ok(None) => {}
                Err(err) => return LookedUp { error: Some(format!("{err:#}")), ..nothing },
            }
        }
        LookedUp { error: Some("no such name".to_owned()), ..nothing }
    }

    /// The first server that answers counts.
    fn ask_all(&self, name: &str, failed: &mut BTreeMap<IpAddr, String>) -> anyhow::Result<Option<Answer>> {
        let name = Name::from_utf8(name).with_context(|| format!("{name:?} is no name"))?;
        for server in &self.servers {
            if failed.contains_key(server) {
                continue;
            }
            let asked = [RecordType::A, RecordType::AAAA].map(|kind| ask(*server, &name, kind));
            let [Ok((mut v4, rtt)), Ok((v6, _))] = asked else {
                let why = asked.into_iter().find_map(Result::err).unwrap_or_else(|| anyhow!("failed"));
                failed.insert(*server, format!("{why:#}"));
                continue;
            };
            v4.extend(v6);
            return Ok((!v4.is_empty()).then_some((*server, v4, rtt)));
        }
        let all: Vec<_> = failed.iter().map(|(server, why)| format!("{server}: {why}")).collect();
        bail!("{}", all.join("; "))
    }
}

/// Addresses of that kind, and microseconds; no addresses if the server knows of none.
fn ask(server: IpAddr, name: &Name, kind: RecordType) -> anyhow::Result<(Vec<IpAddr>, u64)> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(SocketAddr::new(server, DNS))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // The port is the kernel's choice, and not to be guessed either.
    let mut question = Message::new(socket.local_addr()?.port(), MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let begun = Instant::now();
    socket.send(&question.to_vec()?)?;
    let mut bytes = [0; 4096];
    while begun.elapsed() < PATIENCE {
        let length = match socket.recv(&mut bytes) {
            Err(err) if err.kind() == ErrorKind::WouldBlock => break,
            received => received?,
        };
        let Ok(answer) = Message::from_vec(&bytes[..length]) else { continue };
        if answer.metadata.id != question.metadata.id
            || answer.metadata.message_type != MessageType::Response
            || answer.queries != question.queries
        {
            continue;
        }
        let rtt = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        return match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {
                Ok((answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect(), rtt))
            }
            code => bail!("{code}"),
        };
    }
    bail!("no answer")
}

const RESOLV_CONF: &str = "etc/resolv.conf";
const DNS: u16 = 53;
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says() {
        let text = "# x\nnameserver 10.0.0.1\nnameserver x\nnameserver fd00::1\ndomain old\nsearch a b.\noptions timeout:1 ndots:2\n";
        let resolver = Resolver::parse(text);
        let servers: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(
            resolver,
            Resolver { servers: servers.into(), search: vec!["a".into(), "b.".into()], ndots: 2 }
        );
        assert_eq!(Resolver::parse("").servers, [IpAddr::from([127, 0, 0, 1])]);
    }

    #[test]
    fn what_is_asked_for() {
        #[track_caller]
        fn check(name: &str, expected: &[&str]) {
            let resolver =
                Resolver { search: vec!["a".to_owned(), "b.".to_owned()], ndots: 1, ..Resolver::default() };
            assert_eq!(resolver.candidates(name), expected);
        }
        check("x", &["x.a.", "x.b.", "x."]);
        check("x.y", &["x.y.", "x.y.a.", "x.y.b."]);
        check("x.", &["x."]);
    }
}

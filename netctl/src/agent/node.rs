//! netctl's side of an agent: this node's own, in a thread, or a peer's, behind a command. Both speak the protocol, so
//! there is one path for here and there.

use std::{
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};

use super::{
    place::{Containers, Place},
    protocol::{Event, Message, Numbered, Reply, Request, VERSION},
    serve::serve,
};
use crate::trace::observe::now_ns;

/// A node under observation. Its agent ends when this is dropped.
pub struct Node {
    /// As the user calls it.
    pub name: String,
    /// The node's own namespace.
    pub own: Place,
    /// What to add to its clock to have ours, in nanoseconds.
    pub clock_offset: i64,
    writer: Option<Box<dyn Write + Send>>,
    replies: Receiver<Message>,
    next_id: u64,
    carrier: Carrier,
}

/// What has to be ended with the node.
enum Carrier {
    /// The stream to the thread: both directions close at once, for the reader holds it too.
    Thread(UnixStream),
    Process(Child),
}

/// A question that waits for its reply.
#[derive(Debug)]
pub struct Posted(u64);

/// Events of all nodes, each with the position of its node.
pub type Events = Receiver<(usize, Event)>;

/// A peer as the command line names it: `n2=ssh root@n2 netctl agent --stdio`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    pub argv: Vec<String>,
}

impl std::str::FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) =
            text.split_once('=').ok_or_else(|| format!("peer {text:?} is not NAME=COMMAND"))?;
        let argv = shlex::split(command).filter(|argv| !argv.is_empty());
        let argv = argv.ok_or_else(|| format!("command of peer {name:?} is empty or has an open quote"))?;
        if name.is_empty() || name.contains('/') {
            return Err(format!("name {name:?} of a peer is empty or has a slash"));
        }
        Ok(Self { name: name.to_owned(), argv })
    }
}

impl Node {
    /// This node's own agent, in the calling thread's namespace.
    pub fn local(
        name: &str,
        containers: Arc<dyn Containers>,
        position: usize,
        events: Sender<(usize, Event)>,
    ) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("make a socket pair")?;
        let output = theirs.try_clone().context("share a socket")?;
        let agent = move || {
            // What it cannot do it says in its replies; an error here is our own end of the stream.
            let _ = serve(BufReader::new(theirs), output, containers);
        };
        thread::Builder::new().name("agent".to_owned()).spawn(agent).context("start the agent")?;
        let (input, closer) = (ours.try_clone(), ours.try_clone());
        let (input, closer) = (input.context("share a socket")?, closer.context("share a socket")?);
        Ok(Self::new(name, Box::new(ours), input, (position, events), Carrier::Thread(closer)))
    }

    /// A peer's agent, behind its command.
    pub fn start(peer: &Peer, position: usize, events: Sender<(usize, Event)>) -> anyhow::Result<Self> {
        let [program, arguments @ ..] = &peer.argv[..] else { bail!("peer {} has no command", peer.name) };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start the agent of {}: {program}", peer.name))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("agent of {} has no pipes", peer.name);
        };
        let carrier = Carrier::Process(child);
        Ok(Self::new(&peer.name, Box::new(stdin), stdout, (position, events), carrier))
    }

    fn new(
        name: &str,
        writer: Box<dyn Write + Send>,
        reader: impl std::io::Read + Send + 'static,
        events: (usize, Sender<(usize, Event)>),
        carrier: Carrier,
    ) -> Self {
        let (sender, replies) = channel();
        thread::spawn(move || read(reader, &sender, events));
        let own = Place { name: String::new(), path: "/".into(), inode: 0 };
        let name = name.to_owned();
        Self { name, own, clock_offset: 0, writer: Some(writer), replies, next_id: 1, carrier }
    }

    /// Learns who it is and what its clock says. The greeting itself is sent by [`Node::post`], so that slow logins
    /// are waited for side by side.
    pub fn greet(&mut self, greeting: Posted) -> anyhow::Result<()> {
        let Reply::Hello { version, own, .. } = self.reply(greeting)? else {
            bail!("node {} does not answer a greeting", self.name);
        };
        if version != VERSION {
            bail!("agent of {} speaks version {version}, not {VERSION}: use the same netctl", self.name);
        }
        self.own = own;
        self.set_clock()
    }

    /// The best of a few exchanges: half of the way there and back is what stays uncertain.
    fn set_clock(&mut self) -> anyhow::Result<()> {
        let (mut best, begun) = (u64::MAX, Instant::now());
        for _ in 0..5 {
            if best != u64::MAX && begun.elapsed() > CLOCK_PATIENCE {
                break;
            }
            let before = now_ns();
            let Reply::Clock { now_ns: theirs } = self.ask(Request::Clock)? else { continue };
            let took = now_ns().saturating_sub(before);
            if took < best {
                best = took;
                let middle = i64::try_from(before + took / 2).unwrap_or(0);
                self.clock_offset = middle - i64::try_from(theirs).unwrap_or(0);
            }
        }
        // Below what the exchange itself takes nothing is known; the clocks of one kernel are the same.
        if self.clock_offset.unsigned_abs() <= best {
            self.clock_offset = 0;
        }
        Ok(())
    }

    /// Whether this is the node that netctl runs on.
    pub fn is_local(&self) -> bool {
        matches!(self.carrier, Carrier::Thread(_))
    }

    /// Asks, and waits for the reply.
    pub fn ask(&mut self, request: Request) -> anyhow::Result<Reply> {
        let posted = self.post(request)?;
        self.reply(posted)
    }

    /// As [`Node::ask`], of what takes longer.
    pub fn ask_for(&mut self, request: Request, patience: Duration) -> anyhow::Result<Reply> {
        let posted = self.post(request)?;
        self.reply_within(posted, patience)
    }

    /// Asks. Several nodes work side by side when all are asked before the first reply is waited for.
    pub fn post(&mut self, request: Request) -> anyhow::Result<Posted> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = serde_json::to_vec(&Numbered { id, request }).context("write a request")?;
        line.push(b'\n');
        let writer = self.writer.as_mut().context("agent has ended")?;
        let written = writer.write_all(&line).and_then(|()| writer.flush());
        written.with_context(|| format!("ask node {}", self.name))?;
        Ok(Posted(id))
    }

    /// Waits for the reply to what was asked; replies come in the order of the questions.
    pub fn reply(&mut self, posted: Posted) -> anyhow::Result<Reply> {
        self.reply_within(posted, PATIENCE)
    }

    fn reply_within(&mut self, Posted(id): Posted, patience: Duration) -> anyhow::Result<Reply> {
        let name = self.name.clone();
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.replies.recv_timeout(left) {
                Ok(Message::Reply { id: of, reply }) if of == id => return Ok(reply),
                Ok(Message::Refused { id: of, error }) if of == id => bail!("node {name}: {error}"),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("node {name} did not answer within {patience:?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("agent of node {name} has ended: {}", self.end())
                }
            }
        }
    }

    /// Tells the agent to come to its end. What it has seen until now still comes, then its events end.
    pub fn finish(&mut self) {
        self.writer = None;
        if let Carrier::Thread(stream) = &self.carrier {
            // What is gone already needs no ending.
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// What a selector means there.
    pub fn resolve(&mut self, selector: &str) -> anyhow::Result<Option<(Place, Vec<IpAddr>)>> {
        match self.ask(Request::Resolve(selector.to_owned()))? {
            Reply::Place { place, addresses } => Ok(place.map(|place| (place, addresses))),
            _ => Err(anyhow!("node {} answers another question", self.name)),
        }
    }

    /// Which of its namespaces has an address.
    pub fn locate(&mut self, address: IpAddr, foreign: Vec<u32>) -> anyhow::Result<Option<Place>> {
        match self.ask(Request::Locate { address, foreign })? {
            Reply::Place { place, .. } => Ok(place),
            _ => Err(anyhow!("node {} answers another question", self.name)),
        }
    }

    /// Starts something that reports events; what it cannot see there.
    pub fn begin(&mut self, request: Request) -> anyhow::Result<Vec<String>> {
        let posted = self.post(request)?;
        self.begun(posted)
    }

    /// As [`Node::begin`], of what was posted before.
    pub fn begun(&mut self, posted: Posted) -> anyhow::Result<Vec<String>> {
        match self.reply(posted)? {
            Reply::Started { limits } => Ok(limits),
            _ => Err(anyhow!("node {} answers another question", self.name)),
        }
    }

    fn end(&mut self) -> String {
        self.writer = None;
        match &mut self.carrier {
            Carrier::Process(child) => child.wait().map_or_else(|err| err.to_string(), |it| it.to_string()),
            Carrier::Thread(_) => "its stream closed".to_owned(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The end of its input ends the agent, and with it the command that carries it.
        self.writer = None;
        // What is gone already needs no ending.
        match &mut self.carrier {
            Carrier::Thread(stream) => drop(stream.shutdown(std::net::Shutdown::Both)),
            Carrier::Process(child) => drop(child.wait()),
        }
    }
}

fn read(
    reader: impl std::io::Read,
    replies: &Sender<Message>,
    (position, events): (usize, Sender<(usize, Event)>),
) {
    for line in BufReader::new(reader).lines() {
        let Ok(line) = line else { return };
        let sent = match serde_json::from_str(&line) {
            Ok(Message::Event(event)) => events.send((position, event)).is_ok(),
            Ok(reply) => replies.send(reply).is_ok(),
            // A login banner, a warning of ssh: not ours.
            Err(_) => true,
        };
        if !sent {
            return;
        }
    }
}

/// A far peer's clock is not known better for being asked more often.
const CLOCK_PATIENCE: Duration = Duration::from_millis(200);
/// A peer may be behind a slow login.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_commands() {
        let peer: Peer = "n2=ip netns exec n2 'my netctl' agent --stdio".parse().unwrap();
        assert_eq!(peer.name, "n2");
        assert_eq!(peer.argv, ["ip", "netns", "exec", "n2", "my netctl", "agent", "--stdio"]);
        assert!("n2".parse::<Peer>().is_err());
        assert!("n2=".parse::<Peer>().is_err());
        assert!("a/b=x".parse::<Peer>().is_err());
    }

    #[test]
    fn an_agent_that_is_none_is_told() {
        let (events, _) = channel();
        let peer = Peer { name: "n9".to_owned(), argv: vec!["true".to_owned()] };
        let mut node = Node::start(&peer, 0, events).unwrap();
        let err = node.ask(Request::Hello).unwrap_err();
        assert!(format!("{err:#}").contains("n9"), "{err:#}");
    }
}

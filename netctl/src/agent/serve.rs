//! The agent's side: answers requests from one stream, writes replies and events to the other, ends with its input.
//! Whatever it opened (programs, tables, sockets) ends with it.

use std::{
    io::{BufRead, PipeReader, PipeWriter, Write},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context;

use super::{
    nodes::host_name,
    place::{self, Containers, Place},
    protocol::{Event, Message, Numbered, Observe, Reply, Request, SendProbes, VERSION},
};
use crate::{
    capture::record::Recorder,
    drops::watch::Watch,
    knock, lookup, reach, throughput,
    trace::{
        counters,
        observe::{self, Observer},
        passage::{self, Passing},
        probe::Mark,
        send::Sender,
    },
};

/// Serves until `input` ends. Namespaces are seen from the calling thread's.
pub fn serve(
    input: impl BufRead,
    output: impl Write + Send + 'static,
    containers: Arc<dyn Containers>,
) -> anyhow::Result<()> {
    let output: Output = Arc::new(Mutex::new(Box::new(output)));
    // Closing the writing end tells all threads to stop.
    let (stop, stopper) = std::io::pipe()?;
    let mut session = Session { output, containers, stop, _stopper: stopper, threads: Vec::new() };
    for line in input.lines() {
        let line = line.context("read a request")?;
        match serde_json::from_str(&line) {
            Ok(numbered) => session.answer(numbered),
            Err(err) => session.refuse(&line, &err),
        }
    }
    let Session { threads, _stopper, .. } = session;
    drop(_stopper);
    for thread in threads {
        // A thread that panicked has said so on standard error.
        let _ = thread.join();
    }
    Ok(())
}

type Output = Arc<Mutex<Box<dyn Write + Send>>>;

struct Session {
    output: Output,
    containers: Arc<dyn Containers>,
    stop: PipeReader,
    _stopper: PipeWriter,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Session {
    fn answer(&mut self, Numbered { id, request }: Numbered) {
        match self.carry_out(request) {
            Ok((reply, work)) => {
                write(&self.output, &Message::Reply { id, reply });
                // Events come after the reply, so that the other side knows what they are of.
                if let Some(work) = work {
                    self.start(work);
                }
            }
            Err(err) => write(&self.output, &Message::Refused { id, error: format!("{err:#}") }),
        }
    }

    /// Refuses what is no request, with its number if it has one.
    fn refuse(&self, line: &str, err: &serde_json::Error) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let id = value.get("id").and_then(serde_json::Value::as_u64).unwrap_or(0);
        write(&self.output, &Message::Refused { id, error: format!("request not understood: {err}") });
    }

    fn carry_out(&self, request: Request) -> anyhow::Result<(Reply, Option<Work>)> {
        let nothing_more = |reply| Ok((reply, None));
        let started = |work: Work| Ok((Reply::Started { limits: Vec::new() }, Some(work)));
        match request {
            Request::Hello => nothing_more(hello()?),
            Request::Clock => nothing_more(Reply::Clock { now_ns: observe::now_ns() }),
            Request::Resolve(selector) => nothing_more(found(place::resolve(&selector, &*self.containers)?)?),
            Request::Locate { address, foreign } => {
                nothing_more(found(place::locate(address, &*self.containers, &foreign))?)
            }
            Request::Observe(order) => self.observe(&order),
            Request::Counters(places) => nothing_more(counted(&places)),
            Request::Send(order) => {
                let sender = open_sender(order)?;
                started(Box::new(move |stop, emit| Ok(sender.run(Some(stop), emit)?)))
            }
            Request::WatchDrops { places, foreign } => {
                let containers = Arc::clone(&self.containers);
                let all = move || place::namespaces(&*containers, &foreign);
                let watch = Watch::open(places, Box::new(all))?;
                started(Box::new(move |stop, emit| Ok(watch.run(stop, emit)?)))
            }
            Request::Attachments => nothing_more(Reply::Attachments(self.containers.attachments()?)),
            Request::Look { node, words } => {
                nothing_more(Reply::Looked(self.containers.look(&node, &words)?))
            }
            Request::Report => nothing_more(Reply::Report(Box::new(self.containers.report()?))),
            Request::Examine => nothing_more(Reply::Examined(Box::new(self.containers.examine()?))),
            Request::Draw => nothing_more(Reply::Told(Box::new(self.containers.draw()?))),
            Request::Reach { from, to } => {
                let from = match from {
                    Some(path) => Place::at(String::new(), &path)?,
                    None => Place::own()?,
                };
                nothing_more(Reply::Reached(reach::all(&from, &to)))
            }
            Request::Knock { from, to, ports } => {
                nothing_more(Reply::Knocked(knock::all(&Place::at(String::new(), &from)?, &to, &ports)?))
            }
            Request::LookUp { from, names } => {
                nothing_more(Reply::LookedUp(lookup::all(&Place::at(String::new(), &from)?, &names)?))
            }
            Request::Serve { on, address } => {
                let place = Place::at(String::new(), &on)?;
                let end = place.run(|| throughput::End::at(address))??;
                let port = place.run(|| throughput::serve(address))??;
                nothing_more(Reply::Serving { port, end })
            }
            Request::Measure { from, to, milliseconds } => {
                let time = Duration::from_millis(milliseconds);
                let measured = Place::at(String::new(), &from)?.run(|| throughput::measure(to, time))?;
                nothing_more(Reply::Measured(measured.with_context(|| format!("measure to {to}"))?))
            }
            Request::Pass(passing) => nothing_more(self.pass(&passing)?),
            Request::Capture { places, filter, snaplen } => {
                let recorder = Recorder::open(places, filter.parse()?, snaplen)?;
                started(Box::new(move |stop, emit| Ok(recorder.run(stop, emit)?)))
            }
        }
    }

    fn observe(&self, order: &Observe) -> anyhow::Result<(Reply, Option<Work>)> {
        let mark = order.mark.parse()?;
        let others = match order.neighbours {
            true => place::namespaces(&*self.containers, &order.foreign),
            false => self.containers.all(),
        };
        let (observer, limits) = Observer::open(mark, &order.places, &others, order.without_bpf);
        let work: Work = Box::new(move |stop, emit| Ok(observer.run(stop, emit)?));
        Ok((Reply::Started { limits }, Some(work)))
    }

    fn pass(&self, passing: &Passing) -> anyhow::Result<Reply> {
        let mut others = passing.places.clone();
        others.extend(match passing.neighbours {
            true => place::namespaces(&*self.containers, &passing.foreign),
            false => self.containers.all(),
        });
        Ok(Reply::Passed(Box::new(passage::pass(passing, &others)?)))
    }

    fn start(&mut self, work: Work) {
        let output = Arc::clone(&self.output);
        let stop = self.stop.try_clone();
        let run = move || {
            let emit = |event| write(&output, &Message::Event(event));
            let ended = stop.map_err(anyhow::Error::from).and_then(|stop| work(&stop, &emit));
            if let Err(err) = ended {
                emit(Event::Failed(format!("{err:#}")));
            }
        };
        self.threads.push(thread::spawn(run));
    }
}

/// Something that goes on after its request was answered.
type Work = Box<dyn FnOnce(&PipeReader, &dyn Fn(Event)) -> anyhow::Result<()> + Send>;

fn hello() -> anyhow::Result<Reply> {
    Ok(Reply::Hello { version: VERSION, host_name: host_name()?, own: Place::own()? })
}

fn counted(places: &[Place]) -> Reply {
    Reply::Counters(places.iter().map(|place| (place.name.clone(), counters::read(place))).collect())
}

fn found(place: Option<Place>) -> anyhow::Result<Reply> {
    let addresses: Vec<IpAddr> = place.as_ref().map_or(Ok(Vec::new()), Place::addresses)?;
    Ok(Reply::Place { place, addresses })
}

fn open_sender(order: SendProbes) -> anyhow::Result<Sender> {
    let mark: Mark = order.mark.parse()?;
    order.from.run(|| Sender::open(mark, order.clone()))?
}

/// One line. Nobody is left to tell when the other side is gone; its end of input ends us.
fn write(output: &Output, message: &Message) {
    let mut line = serde_json::to_vec(message).expect("text, numbers and lists of them");
    line.push(b'\n');
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = output.write_all(&line).and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use std::{io::Cursor, sync::mpsc};

    use super::*;
    use crate::agent::place::Unnamed;

    struct Lines(mpsc::Sender<Vec<u8>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn replies(input: &str) -> Vec<serde_json::Value> {
        let (sender, receiver) = mpsc::channel();
        serve(Cursor::new(input.to_owned()), Lines(sender), Arc::new(Unnamed)).unwrap();
        receiver.iter().map(|line| serde_json::from_slice(&line).unwrap()).collect()
    }

    #[test]
    fn what_is_no_request_is_refused_by_its_number() {
        #[track_caller]
        fn check(line: &str, id: u64, told: &str) {
            let replies = replies(&format!("{line}\n"));
            let error = replies[0]["refused"]["error"].as_str().unwrap();
            assert!(error.contains(told), "{error}");
            assert_eq!((replies.len(), &replies[0]["refused"]["id"]), (1, &id.into()));
        }
        check("", 0, "not understood");
        check("{\"id\": 7}", 7, "missing field `request`");
        check("[[[[", 0, "not understood");
        check(r#"{"id":1,"request":"dance"}"#, 1, "unknown variant `dance`");
        let observe = r#"{"mark":"zz","places":[],"neighbours":false,"foreign":[],"without_bpf":true}"#;
        check(
            &format!(r#"{{"id":4,"request":{{"observe":{observe}}}}}"#),
            4,
            "\"zz\" is not 14 hexadecimal digits",
        );
        let capture = r#"{"places":[],"filter":"and","snaplen":64}"#;
        check(&format!(r#"{{"id":5,"request":{{"capture":{capture}}}}}"#), 5, "filter \"and\"");
    }

    #[test]
    fn requests_are_answered_in_order() {
        for selector in ["pid:x", "pid:0", "netns:/no/such", "netns:/etc/passwd", "nobody"] {
            let replies = replies(&format!(r#"{{"id":3,"request":{{"resolve":"{selector}"}}}}"#));
            assert_eq!(replies[0]["reply"]["reply"]["place"]["place"], serde_json::Value::Null, "{selector}");
        }
        let replies = replies("{\"id\":1,\"request\":\"hello\"}\nnoise\n{\"id\":2,\"request\":\"clock\"}\n");
        assert_eq!(replies[0]["reply"]["reply"]["hello"]["version"], VERSION);
        assert!(replies[1]["refused"].is_object());
        assert!(replies[2]["reply"]["reply"]["clock"]["now_ns"].as_u64().unwrap() > 0);
    }
}

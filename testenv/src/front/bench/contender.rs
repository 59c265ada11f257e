//! One of those compared: how its processes are started, as a runtime would, and one turn of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use testenv::ns::Ns;

use super::subject::{Floor, Network, Subject};
use super::{MANY, file, write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::front) enum Who {
    Ours,
    Peer,
    Floor,
}

pub(super) struct Contender {
    who: Who,
    slots: Vec<Slot>,
    /// The result of the attachment that stays beside.
    beside: Option<Value>,
}

/// One attachment that is made and removed again and again.
struct Slot {
    add: Vec<Invocation>,
    del: Vec<Invocation>,
}

/// One process, each of which is told the result of the last.
struct Invocation {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    config: Value,
    stdin: PathBuf,
    output: PathBuf,
}

/// How long ADD of all slots took, and DEL; how many failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) add: Duration,
    pub(super) del: Duration,
    pub(super) failed: usize,
}

impl Contender {
    /// Makes the contender's network and fills it with `leases` of others. None where the subject has no floor.
    pub(super) fn set_up(
        who: Who,
        programs: &Path,
        subject: &Subject,
        network: &Network<'_>,
        leases: usize,
    ) -> anyhow::Result<Option<Self>> {
        fs::create_dir_all(&network.leases).with_context(|| format!("make {}", network.leases.display()))?;
        for lease in 0..leases {
            let address = format!("10.{}.{}.{}", network.number, 100 + lease / 250, lease % 250);
            write(&network.leases.join(address), format!("someone-{lease}\r\neth0"))?;
        }
        (subject.prepare)(network)?;
        let containers = network.containers.iter().enumerate();
        let slots: anyhow::Result<Vec<Slot>> = match (who, &subject.floor) {
            (Who::Floor, None) => return Ok(None),
            (Who::Floor, Some(floor)) => {
                (floor.prepare)(network)?;
                containers.map(|(slot, ns)| floor_slot(floor, programs, network, slot, ns)).collect()
            }
            _ => containers.map(|(slot, ns)| plugins_slot(subject, programs, network, slot, ns)).collect(),
        };
        let slots = slots?;
        let mut contender = Self { who, slots, beside: None };
        if let (true, Some(Slot { add, .. })) = (subject.beside, contender.stays()) {
            let attached = pass_on(add, add[0].command(None)?)?;
            let failed = || format!("{who:?}: attach the other: {}", said(&contender.slots));
            contender.beside = Some(attached.with_context(failed)?);
        }
        Ok(Some(contender))
    }

    /// What stays beside is in a container of its own.
    fn stays(&self) -> Option<&Slot> {
        self.slots.get(MANY + self.who as usize)
    }

    /// Takes away what stayed beside.
    pub(super) fn leave(self) -> anyhow::Result<()> {
        if let (Some(result), Some(Slot { del, .. })) = (&self.beside, self.stays()) {
            let dels = del.iter().map(|one| one.command(Some(result))).collect::<anyhow::Result<_>>()?;
            ensure!(run_each(dels)?, "{:?}: detach the other: {}", self.who, said(&self.slots));
        }
        Ok(())
    }

    pub(super) fn who(&self) -> Who {
        self.who
    }

    /// ADD of the first `at_once` attachments, all started before any is waited for; then their DEL.
    pub(super) fn turn(&mut self, at_once: usize) -> anyhow::Result<Turn> {
        let slots = &self.slots[..at_once];
        let adds = slots.iter().map(|slot| Ok((&*slot.add, slot.add[0].command(None)?)));
        let (add, results) =
            all(adds.collect::<anyhow::Result<_>>()?, |(chain, first)| pass_on(chain, first))?;
        // A runtime keeps the result of the last ADD, and hands it to each DEL.
        let dels = slots.iter().zip(&results).map(|(slot, result)| {
            slot.del.iter().map(|one| one.command(result.as_ref())).collect::<anyhow::Result<Vec<_>>>()
        });
        let (del, removed) = all(dels.collect::<anyhow::Result<_>>()?, run_each)?;
        let failed = results.iter().filter(|result| result.is_none()).count()
            + removed.iter().filter(|well| !**well).count();
        if failed > 0 && self.who != Who::Peer {
            bail!("{failed} of {:?} failed: {}", self.who, said(slots));
        }
        Ok(Turn { add, del, failed })
    }
}

/// What the processes of the slots wrote, those that wrote an error.
fn said(slots: &[Slot]) -> String {
    let outputs = slots.iter().flat_map(|slot| slot.add.iter().chain(&slot.del)).map(|one| &one.output);
    let texts = outputs.filter_map(|path| fs::read_to_string(path).ok());
    texts.filter(|text| text.contains("\"code\"") || text.contains("floor: ")).take(3).collect()
}

/// Does `work` on every slot's part at the same time, and says how long all took.
fn all<S: Send, T: Send>(
    parts: Vec<S>,
    work: impl Fn(S) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<(Duration, Vec<T>)> {
    let start = Instant::now();
    let done: anyhow::Result<Vec<T>> = if parts.len() == 1 {
        parts.into_iter().map(work).collect()
    } else {
        thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || work(part))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic in a slot")).collect()
        })
    };
    Ok((start.elapsed(), done?))
}

/// A chain's ADD: each is told the result of the one before. The last one's, unless one failed; null where nobody asks.
fn pass_on(chain: &[Invocation], mut first: Command) -> anyhow::Result<Option<Value>> {
    let mut ended = run(&mut first)?;
    if chain.len() == 1 {
        return Ok(ended.then_some(Value::Null));
    }
    let mut last = &chain[0];
    for next in &chain[1..] {
        if !ended {
            return Ok(None);
        }
        ended = run(&mut next.command(Some(&last.answer()?))?)?;
        last = next;
    }
    if ended { last.answer().map(Some) } else { Ok(None) }
}

/// A chain's DEL, which goes on when one fails. Whether all went well.
fn run_each(commands: Vec<Command>) -> anyhow::Result<bool> {
    commands.into_iter().try_fold(true, |well, mut command| Ok(well & run(&mut command)?))
}

fn run(command: &mut Command) -> anyhow::Result<bool> {
    Ok(command.status().context("start a contender")?.success())
}

impl Invocation {
    /// Ready to start: its configuration is on disk, with the result of the one before if there is one.
    fn command(&self, previous: Option<&Value>) -> anyhow::Result<Command> {
        if let Some(previous) = previous.filter(|previous| !previous.is_null()) {
            let mut config = self.config.clone();
            config["prevResult"] = previous.clone();
            write(&self.stdin, config.to_string())?;
        }
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        let output = File::create(&self.output).with_context(|| format!("make {}", self.output.display()))?;
        command.stdin(File::open(&self.stdin).with_context(|| format!("open {}", self.stdin.display()))?);
        command.stderr(output.try_clone().map(Stdio::from).context("share an output")?);
        command.stdout(output);
        Ok(command)
    }

    fn answer(&self) -> anyhow::Result<Value> {
        let text = fs::read(&self.output).with_context(|| format!("read {}", self.output.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("read the result in {}", self.output.display()))
    }
}

fn plugins_slot(
    subject: &Subject,
    programs: &Path,
    network: &Network<'_>,
    slot: usize,
    ns: &Ns,
) -> anyhow::Result<Slot> {
    let name = &network.name;
    let invocation = |verb: &str, mut config: Value| {
        let plugin = config["type"].as_str().context("a configuration without type")?.to_string();
        config["name"] = json!(name);
        config["cniVersion"] = json!("1.0.0");
        let own = |what: &str| file(network.lab, &format!("{name}-{slot}-{plugin}-{verb}.{what}"));
        let environment = vec![
            ("CNI_COMMAND", verb.to_string()),
            ("CNI_CONTAINERID", format!("bench-{slot}")),
            ("CNI_NETNS", ns.path().display().to_string()),
            ("CNI_IFNAME", "eth0".to_string()),
            ("CNI_ARGS", String::new()),
            ("CNI_PATH", programs.display().to_string()),
        ];
        write(&own("json"), config.to_string())?;
        let (program, arguments) = (programs.join(&plugin), Vec::new());
        anyhow::Ok(Invocation {
            program,
            arguments,
            environment,
            config,
            stdin: own("json"),
            output: own("out"),
        })
    };
    let chain = (subject.chain)(network, slot)?;
    let each = |verb| {
        chain.iter().map(|config| invocation(verb, config.clone())).collect::<anyhow::Result<Vec<_>>>()
    };
    let (add, mut del) = (each("ADD")?, each("DEL")?);
    del.reverse();
    Ok(Slot { add, del })
}

fn floor_slot(
    floor: &Floor,
    programs: &Path,
    network: &Network<'_>,
    slot: usize,
    ns: &Ns,
) -> anyhow::Result<Slot> {
    let scripts = (floor.scripts)(network, slot)?;
    let lease = network.leases.join(&scripts.address).display().to_string();
    let invocation = |verb: &str, messages: Vec<u8>, netns: String, content: String| {
        let own = |what: &str| file(network.lab, &format!("{}-{slot}-{verb}{what}", network.name));
        write(&own(""), messages)?;
        anyhow::Ok(vec![Invocation {
            program: programs.join("floor"),
            arguments: vec![own("").display().to_string(), netns, lease.clone(), content],
            environment: Vec::new(),
            config: Value::Null,
            stdin: PathBuf::from("/dev/null"),
            output: own(".out"),
        }])
    };
    let netns = ns.path().display().to_string();
    Ok(Slot {
        add: invocation("ADD", scripts.add, netns.clone(), format!("bench-{slot}\r\neth0"))?,
        del: invocation("DEL", scripts.del, netns, String::new())?,
    })
}

//! `cargo testenv bench`: our plugin, the Go plugin and the floor by turns, in one process tree on one machine.
//! Ratios count; the milliseconds are this machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use testenv::lab::{self, Lab};
use testenv::ns::Ns;

use self::contender::{Contender, Who};
use self::report::Measured;
use super::{cargo, install, packages, root, say};

mod chart;
mod contender;
mod report;
mod script;

/// Attachments at once in the cases that ask for many.
const MANY: usize = 64;
const MANY_LEASES: usize = 10_000;
/// Packages and binaries of ours that take part.
const COMPARED: [(&str, &str); 2] = [("bridge", "bridge"), ("ipam", "host-local")];

/// What is the same for all contenders of one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Case {
    pub(super) masquerade: bool,
    pub(super) leases: usize,
    pub(super) at_once: usize,
}

struct Options {
    peer: PathBuf,
    /// A comparison ends after this time, once each contender had its least number of turns.
    budget: Duration,
}

pub(super) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let options = options(arguments)?;
    packages::provide()?;
    let (ours, floor) = build()?;
    let target = cargo::target_directory()?.join("bench");
    fs::create_dir_all(&target).with_context(|| format!("make {}", target.display()))?;
    root::ensure_root()?;
    ensure!(
        options.peer.join("bridge").is_file(),
        "no bridge plugin in {}: see --peer",
        options.peer.display()
    );
    let names = COMPARED.map(|(_, binary)| binary);
    let sizes = report::sizes(&ours, &names);
    let programs = Arc::new([ours, options.peer, floor]);
    let (sender, receiver) = std::sync::mpsc::channel();
    let budget = options.budget;
    lab::run("bench", move |lab| {
        lab.allow_everything();
        sender.send(measure(lab, &programs, budget)).expect("the receiver waits");
    });
    let measured = receiver.recv().context("the lab ended without a result")??;
    say(&(report::table(&measured) + "\n" + &report::budgets(&measured) + &sizes))?;
    for (name, text) in [("bench.json", report::json(&measured)?), ("bench.svg", chart::draw(&measured))] {
        let path = target.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        say(&path.display().to_string())?;
    }
    let failed = measured.iter().any(|one| one.who != Who::Peer && one.failed > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn options(arguments: &[String]) -> anyhow::Result<Options> {
    let mut options = Options { peer: PathBuf::from("/usr/lib/cni"), budget: Duration::from_secs(12) };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().with_context(|| format!("bench: {option} needs a value"))?;
        match option.as_str() {
            "--peer" => options.peer = PathBuf::from(value),
            "--seconds" => {
                let seconds = value.parse().with_context(|| format!("bench: --seconds {value}"))?;
                options.budget = Duration::from_secs(seconds);
            }
            _ => bail!("bench: unexpected argument {option:?}; expected --peer DIR or --seconds N"),
        }
    }
    Ok(options)
}

/// The directory of our plugins, and that of the floor: both built alike.
fn build() -> anyhow::Result<(PathBuf, PathBuf)> {
    let ours = install::build(&COMPARED.iter().flat_map(selection).collect::<Vec<_>>())?;
    let floor = install::build(&selection(&("testenv", "floor")))?;
    Ok((ours, floor))
}

fn selection((package, binary): &(&str, &str)) -> Vec<String> {
    ["--package", package, "--bin", binary].map(String::from).to_vec()
}

fn measure(lab: &Lab, programs: &[PathBuf; 3], budget: Duration) -> anyhow::Result<Vec<Measured>> {
    let containers: Vec<Ns> = (0..MANY).map(|number| lab.netns(&format!("b{number}"))).collect();
    let mut measured = Vec::new();
    for leases in [0, MANY_LEASES] {
        for masquerade in [false, true] {
            let mut contenders = Vec::new();
            for (who, programs) in [Who::Ours, Who::Peer, Who::Floor].into_iter().zip(programs) {
                let case = Case { masquerade, leases, at_once: 1 };
                contenders.push(Contender::set_up(lab, who, programs, case, &containers)?);
            }
            for at_once in [1, MANY] {
                let case = Case { masquerade, leases, at_once };
                eprintln!("testenv: {}", report::title(case));
                measured.extend(compare(&mut contenders, case, budget)?);
            }
        }
    }
    Ok(measured)
}

/// Turns of ADD and DEL by each contender, the order turning too, until the time is up.
fn compare(contenders: &mut [Contender], case: Case, budget: Duration) -> anyhow::Result<Vec<Measured>> {
    for contender in contenders.iter_mut() {
        contender.turn(case.at_once.min(2)).with_context(|| format!("warm up {:?}", contender.who()))?;
    }
    let (least, most) = if case.at_once == 1 { (5, 100) } else { (2, 10) };
    let mut turns = vec![Vec::new(); contenders.len()];
    let start = Instant::now();
    for round in 0..most {
        if round >= least && start.elapsed() > budget {
            break;
        }
        for number in 0..contenders.len() {
            let number = (number + round) % contenders.len();
            turns[number].push(contenders[number].turn(case.at_once)?);
        }
    }
    let of = |(contender, turns): (&Contender, Vec<_>)| Measured::of(case, contender.who(), &turns);
    Ok(contenders.iter().zip(turns).flat_map(of).collect())
}

/// The file `name` in the lab's own directory.
fn file(lab: &Lab, name: &str) -> PathBuf {
    lab.dir().join(name)
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}

//! `cargo testenv bench`: our plugin, the Go plugin and the floor by turns, in one process tree on one machine.
//! Ratios count; the milliseconds are this machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use testenv::lab::{self, Lab};
use testenv::ns::Ns;

use self::contender::{Contender, Who};
use self::report::Measured;
use self::subject::{Network, SUBJECTS, Subject};
use super::{cargo, install, packages, root, say, suite};

mod chart;
mod contender;
mod report;
mod script;
mod subject;

/// Attachments at once in the cases that ask for many.
const MANY: usize = 64;
const MANY_LEASES: usize = 10_000;
/// 10.x.0.0/16 of the first contender's network; each has one to itself.
const FIRST_NETWORK: u8 = 10;

/// What is the same for all contenders of one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Case {
    pub(super) subject: &'static str,
    pub(super) leases: usize,
    pub(super) at_once: usize,
}

struct Options {
    peer: PathBuf,
    /// A comparison ends after this time, once each contender had its least number of turns.
    budget: Duration,
    /// Cases in whose titles this is.
    only: String,
}

pub(super) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let options = options(arguments)?;
    packages::provide()?;
    let scenes = scenes(&options.only);
    ensure!(!scenes.is_empty(), "bench: --only {:?}: in no title", options.only);
    let mut ours: Vec<_> = scenes.iter().flat_map(|scene| scene.subject.programs).copied().collect();
    ours.sort_unstable();
    ours.dedup();
    let programs = build(&ours, options.peer)?;
    let target = cargo::target_directory()?.join("bench");
    fs::create_dir_all(&target).with_context(|| format!("make {}", target.display()))?;
    root::ensure_root()?;
    let names: Vec<_> = ours.iter().map(|(_, binary)| *binary).collect();
    let missing = names.iter().find(|name| !programs.peer.join(name).is_file());
    ensure!(missing.is_none(), "no plugin {missing:?} in {}: see --peer", programs.peer.display());
    let sizes = report::sizes(&programs.ours, &names);
    let (sender, receiver) = std::sync::mpsc::channel();
    let budget = options.budget;
    lab::run("bench", move |lab| {
        lab.allow_everything();
        sender.send(measure(lab, &programs, &scenes, budget)).expect("the receiver waits");
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
    let mut options =
        Options { peer: PathBuf::from("/usr/lib/cni"), budget: Duration::from_secs(12), only: String::new() };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().with_context(|| format!("bench: {option} needs a value"))?;
        match option.as_str() {
            "--only" => options.only.clone_from(value),
            "--peer" => options.peer = PathBuf::from(value),
            "--seconds" => {
                let seconds = value.parse().with_context(|| format!("bench: --seconds {value}"))?;
                options.budget = Duration::from_secs(seconds);
            }
            _ => bail!(
                "bench: unexpected argument {option:?}; expected --peer DIR, --only TITLE or --seconds N"
            ),
        }
    }
    Ok(options)
}

/// Cases that one network of each contender serves.
struct Scene {
    subject: &'static Subject,
    leases: usize,
    cases: Vec<Case>,
}

fn scenes(only: &str) -> Vec<Scene> {
    let all = SUBJECTS.iter().flat_map(|subject| subject.cases.iter().map(move |cases| (subject, cases)));
    let scenes = all.map(|(subject, (leases, at_once))| {
        let case = |&at_once| Case { subject: subject.title, leases: *leases, at_once };
        let cases = at_once.iter().map(case).filter(|case| report::title(*case).contains(only)).collect();
        Scene { subject, leases: *leases, cases }
    });
    scenes.filter(|scene| !scene.cases.is_empty()).collect()
}

/// The directories that the contenders' programs are in.
struct Programs {
    ours: PathBuf,
    peer: PathBuf,
    floor: PathBuf,
}

/// Ours and the floor, built alike. A plugin with a further name is there under that too.
fn build(ours: &[(&str, &str)], peer: PathBuf) -> anyhow::Result<Programs> {
    let binaries = ours.iter().map(|(package, name)| (*package, suite::binary(name)));
    let dir = install::build(&binaries.flat_map(|one| selection(&one)).collect::<Vec<_>>())?;
    for (_, name) in ours.iter().filter(|(_, name)| suite::binary(name) != *name) {
        let copied = fs::copy(dir.join(suite::binary(name)), dir.join(name));
        copied.with_context(|| format!("copy {name} in {}", dir.display()))?;
    }
    Ok(Programs { ours: dir, peer, floor: install::build(&selection(&("testenv", "floor")))? })
}

fn selection((package, binary): &(&str, &str)) -> Vec<String> {
    ["--package", package, "--bin", binary].map(String::from).to_vec()
}

fn measure(
    lab: &Lab,
    programs: &Programs,
    scenes: &[Scene],
    budget: Duration,
) -> anyhow::Result<Vec<Measured>> {
    // One more for each contender that has an attachment which stays.
    let containers: Vec<Ns> = (0..MANY + 2).map(|number| lab.netns(&format!("b{number}"))).collect();
    let (mut measured, mut numbers) = (Vec::new(), FIRST_NETWORK..);
    for Scene { subject, leases, cases } in scenes {
        if let Some(kind) = subject.needs.filter(|kind| !lab.makes_links(kind)) {
            eprintln!("testenv: {} left out: this kernel makes no links of kind {kind}", subject.title);
            continue;
        }
        let mut contenders = Vec::new();
        for (who, programs) in
            [(Who::Ours, &programs.ours), (Who::Peer, &programs.peer), (Who::Floor, &programs.floor)]
        {
            let number = numbers.next().context("too many networks")?;
            let name = format!("bench{number}");
            let leases_of = PathBuf::from("/var/lib/cni/networks").join(&name);
            let network = Network { lab, containers: &containers, number, name, leases: leases_of };
            contenders.extend(Contender::set_up(who, programs, subject, &network, *leases)?);
        }
        for case in cases {
            eprintln!("testenv: {}", report::title(*case));
            measured.extend(compare(&mut contenders, *case, budget)?);
        }
        contenders.into_iter().try_for_each(Contender::leave)?;
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

//! `cargo testenv vm test`: tests in a guest for each kernel, counted.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::guest::{Ended, Job};
use super::job::{self, Task};
use super::kernel::Kernel;
use super::{guest, pair, print};
use crate::front::cargo::{self, TestBinary};
use crate::front::{count::Count, packages, say};

/// Tests of one binary, by a part of their names.
struct Part {
    package: &'static str,
    binary: &'static str,
    filter: &'static str,
}

/// What needs a part of the kernel that a host may lack: a test that skips itself for want of it belongs here.
const PARTS: &[Part] = &[
    // CONFIG_BRIDGE_VLAN_FILTERING
    Part { package: "kernel", binary: "it", filter: "bridges::keeps_vlans" },
    Part { package: "bridge", binary: "it", filter: "vlan::" },
    // Sockets of CONFIG_IP_SCTP, and their flows translated.
    Part { package: "chained", binary: "it", filter: "portmap::sctp::" },
    // Two kernels.
    Part { package: TWO_HOSTS.0, binary: TWO_HOSTS.1, filter: "" },
    // CONFIG_IPVLAN, CONFIG_VLAN_8021Q, CONFIG_DUMMY
    Part { package: "ipvlan", binary: "it", filter: "" },
    Part { package: "vlan", binary: "it", filter: "" },
    Part { package: "dummy", binary: "it", filter: "" },
    // Taps, which kernels differ in.
    Part { package: "tap", binary: "it", filter: "queue::" },
    // CONFIG_NET_VRF
    Part { package: "chained", binary: "it", filter: "vrf::" },
];

/// Which tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice<'a> {
    /// Those that need what a host's kernel may lack.
    Parts,
    /// All that are of the suite, or of some of its packages; or those whose names contain one of the filters.
    All { packages: &'a [String], filters: &'a [String] },
    /// What takes two machines.
    TwoHosts,
}

/// The package and the name of the tests that run on the first of two hosts.
const TWO_HOSTS: (&str, &str) = ("testenv", "two_hosts");

/// Whose tests are not of the suite.
const NOT_OF_THE_SUITE: &str = "testenv";

pub(super) fn run(kernels: &[String], choice: Choice<'_>, limit: Duration) -> anyhow::Result<ExitCode> {
    packages::provide_for_guests()?;
    packages::provide()?;
    cargo::run(&["build", "--workspace", "--bins"])?;
    let binaries = cargo::build_tests()?;
    let tasks = match choice {
        Choice::Parts => parts(&binaries)?,
        Choice::All { packages, filters } => {
            let chosen = |it: &TestBinary| packages.is_empty() || packages.contains(&it.package);
            whole(&binaries, filters, |it| it.package != NOT_OF_THE_SUITE && chosen(it))
        }
        Choice::TwoHosts => whole(&binaries, &[], |it| it.is(TWO_HOSTS.0, TWO_HOSTS.1)),
    };
    let (mut count, mut skipped) = (Count::default(), 0);
    for series in kernels {
        skipped += run_on(&Kernel::provide(series)?, &tasks, limit, &mut count)?;
    }
    let (line, good) = count.verdict(skipped);
    say(&line)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parts(binaries: &[TestBinary]) -> anyhow::Result<Vec<Task<'_>>> {
    let task = |part: &Part| {
        let Part { package, binary, filter } = part;
        let binary = binaries.iter().find(|it| it.is_integration && it.is(package, binary));
        let binary = binary.with_context(|| format!("{package} has no tests {:?}", part.binary))?;
        Ok(Task {
            name: format!("{} {filter}", binary.title()),
            binary,
            arguments: vec![(*filter).to_string()],
        })
    };
    PARTS.iter().map(task).collect()
}

/// The one test `name`, as it is called where it is skipped, if it is of [`PARTS`].
pub(super) fn only<'a>(name: &str, binaries: &'a [TestBinary]) -> Option<Task<'a>> {
    let (package, rest) = name.split_once("::")?;
    let (binary, test) = rest.split_once("::")?;
    let is_it = |part: &&Part| (part.package, part.binary) == (package, binary) && test.contains(part.filter);
    PARTS.iter().find(is_it)?;
    let binary = binaries.iter().find(|it| it.is_integration && it.is(package, binary))?;
    Some(Task { name: name.to_string(), binary, arguments: ["--exact", test].map(String::from).to_vec() })
}

/// The tests of the binaries chosen, all that pass one of the filters.
fn whole<'a>(
    binaries: &'a [TestBinary],
    filters: &[String],
    chosen: impl Fn(&TestBinary) -> bool,
) -> Vec<Task<'a>> {
    let binaries = binaries.iter().filter(|it| it.is_integration && chosen(it));
    binaries.map(|binary| Task { name: binary.title(), binary, arguments: filters.to_vec() }).collect()
}

/// Runs tasks on a kernel, each and all for so long at most: in one guest, or where one takes two hosts, in the first of two.
pub(super) fn boot(
    kernel: &Kernel,
    tasks: &[Task<'_>],
    (each, all): (Duration, Duration),
    out: impl FnMut(&[u8]) -> io::Result<()> + Send,
) -> anyhow::Result<Ended> {
    let script = job::tests(tasks, each)?;
    if tasks.iter().any(|task| task.binary.is(TWO_HOSTS.0, TWO_HOSTS.1)) {
        pair::run(kernel, &script, all, out)
    } else {
        guest::run(kernel, &Job::alone(&script, all), out)
    }
}

/// Runs the tasks on one kernel and counts; how many tests skipped themselves there.
fn run_on(kernel: &Kernel, tasks: &[Task<'_>], limit: Duration, count: &mut Count) -> anyhow::Result<usize> {
    say(&format!("on Linux {}", kernel.release))?;
    let started = Instant::now();
    let ended = boot(kernel, tasks, (limit, limit), |line| {
        count.add(&String::from_utf8_lossy(line));
        print(line)
    })?;
    if let Err(cause) = &ended.code {
        eprintln!("testenv: Linux {}: {cause:#}", kernel.release);
    }
    let report = job::report(&ended.report);
    for (test, reason) in &report.skipped {
        say(&format!("skipped {test}: {reason}"))?;
    }
    for Task { name, .. } in tasks {
        // A test that failed is in the count; what ended in another way is not.
        match report.ended.get(name).copied() {
            Some(0 | FAILED_TESTS) => continue,
            Some(job::TOO_LONG) => eprintln!("testenv: {name} was not done after {} s", limit.as_secs()),
            Some(code) => eprintln!("testenv: {name} ended with status {code}"),
            None => eprintln!("testenv: {name} was not run to its end"),
        }
        count.failed += 1;
    }
    eprintln!("testenv: Linux {} took {} s", kernel.release, started.elapsed().as_secs());
    Ok(report.skipped.len())
}

/// The exit status of a test binary of which tests failed.
const FAILED_TESTS: u8 = 101;

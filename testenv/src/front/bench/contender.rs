//! One of those compared: how its processes are started, and one turn of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;
use testenv::lab::Lab;
use testenv::ns::Ns;

use super::script::{self, Attachment};
use super::{Case, file, write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::front) enum Who {
    Ours,
    Peer,
    Floor,
}

/// The nft set of the floor that holds what is masqueraded.
pub(super) const FLOOR_TABLE: &str = "floor";
pub(super) const FLOOR_SET: &str = "masqueraded";

pub(super) struct Contender {
    who: Who,
    slots: Vec<Slot>,
}

/// One attachment that is made and removed again and again.
struct Slot {
    add: Invocation,
    del: Invocation,
}

struct Invocation {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
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
    /// Makes the contender's network and, where the case says so, fills it with leases of others.
    pub(super) fn set_up(
        lab: &Lab,
        who: Who,
        programs: &Path,
        case: Case,
        containers: &[Ns],
    ) -> anyhow::Result<Self> {
        let number = network_number(who, case);
        let name = format!("bench{number}");
        let leases = PathBuf::from("/var/lib/cni/networks").join(&name);
        fs::create_dir_all(&leases).with_context(|| format!("make {}", leases.display()))?;
        for lease in 0..case.leases {
            let address = format!("10.{number}.{}.{}", 100 + lease / 250, lease % 250);
            write(&leases.join(address), format!("someone-{lease}\r\neth0"))?;
        }
        let network = Network { lab, number, name, leases, programs, case };
        let slot =
            |(slot, ns)| if who == Who::Floor { network.floor(slot, ns) } else { network.plugin(slot, ns) };
        if who == Who::Floor {
            network.prepare_floor()?;
        }
        let slots = containers.iter().enumerate().map(slot).collect::<anyhow::Result<_>>()?;
        Ok(Self { who, slots })
    }

    pub(super) fn who(&self) -> Who {
        self.who
    }

    /// ADD of the first `at_once` attachments, all started before any is waited for; then their DEL.
    pub(super) fn turn(&mut self, at_once: usize) -> anyhow::Result<Turn> {
        let slots = &self.slots[..at_once];
        let (add, failed_adds) = all(slots.iter().map(|slot| &slot.add))?;
        let (del, failed_dels) = all(slots.iter().map(|slot| &slot.del))?;
        let failed = failed_adds + failed_dels;
        if failed > 0 && self.who != Who::Peer {
            bail!("{failed} of {:?} failed: {}", self.who, said(slots));
        }
        Ok(Turn { add, del, failed })
    }
}

/// What the processes of the slots wrote, those that wrote an error.
fn said(slots: &[Slot]) -> String {
    let outputs = slots.iter().flat_map(|slot| [&slot.add.output, &slot.del.output]);
    let texts = outputs.filter_map(|path| fs::read_to_string(path).ok());
    texts.filter(|text| text.contains("\"code\"") || text.contains("floor: ")).take(3).collect()
}

fn all<'a>(invocations: impl Iterator<Item = &'a Invocation>) -> anyhow::Result<(Duration, usize)> {
    let mut commands = invocations.map(Invocation::command).collect::<anyhow::Result<Vec<_>>>()?;
    let start = Instant::now();
    let children: Vec<Child> =
        commands.iter_mut().map(Command::spawn).collect::<Result<_, _>>().context("start a contender")?;
    let mut failed = 0;
    for mut child in children {
        failed += usize::from(!child.wait().context("wait for a contender")?.success());
    }
    Ok((start.elapsed(), failed))
}

impl Invocation {
    fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        let output = File::create(&self.output).with_context(|| format!("make {}", self.output.display()))?;
        command.stdin(File::open(&self.stdin).with_context(|| format!("open {}", self.stdin.display()))?);
        command.stderr(output.try_clone().map(Stdio::from).context("share an output")?);
        command.stdout(output);
        Ok(command)
    }
}

/// Each contender of each case has a network of its own: 10.<number>.0.0/16.
fn network_number(who: Who, case: Case) -> usize {
    10 + 4 * (who as usize) + 2 * usize::from(case.masquerade) + usize::from(case.leases > 0)
}

struct Network<'a> {
    lab: &'a Lab,
    number: usize,
    name: String,
    leases: PathBuf,
    programs: &'a Path,
    case: Case,
}

impl Network<'_> {
    fn plugin(&self, slot: usize, ns: &Ns) -> anyhow::Result<Slot> {
        let Self { lab, number, name, programs, case, .. } = self;
        let config = json!({
            "cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": name,
            "isGateway": true, "ipMasq": case.masquerade,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": format!("10.{number}.0.0/16") }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        });
        let stdin = file(lab, &format!("{name}.json"));
        write(&stdin, config.to_string())?;
        let invocation = |verb: &str| Invocation {
            program: programs.join("bridge"),
            arguments: Vec::new(),
            environment: vec![
                ("CNI_COMMAND", verb.to_string()),
                ("CNI_CONTAINERID", format!("bench-{slot}")),
                ("CNI_NETNS", ns.path().display().to_string()),
                ("CNI_IFNAME", "eth0".to_string()),
                ("CNI_ARGS", String::new()),
                ("CNI_PATH", programs.display().to_string()),
            ],
            stdin: stdin.clone(),
            output: file(lab, &format!("{name}-{slot}-{verb}.out")),
        };
        Ok(Slot { add: invocation("ADD"), del: invocation("DEL") })
    }

    /// The bridge and the ruleset that the first attachment of a network would make.
    fn prepare_floor(&self) -> anyhow::Result<()> {
        let host = self.lab.host();
        host.add_bridge(&self.name);
        host.add_address(&self.name, &format!("10.{}.0.1/16", self.number));
        host.set_up(&self.name);
        if self.case.masquerade {
            let ruleset = format!(
                "add table inet {FLOOR_TABLE}
                 add set inet {FLOOR_TABLE} {FLOOR_SET} {{ type ipv4_addr; }}
                 add chain inet {FLOOR_TABLE} out {{ type nat hook postrouting priority srcnat; }}
                 flush chain inet {FLOOR_TABLE} out
                 add rule inet {FLOOR_TABLE} out ip saddr @{FLOOR_SET} ip daddr != 10.0.0.0/8 masquerade\n"
            );
            let path = file(self.lab, "floor.nft");
            write(&path, ruleset)?;
            host.exec(&["nft", "-f", &path.display().to_string()]).ok();
        }
        Ok(())
    }

    fn floor(&self, slot: usize, ns: &Ns) -> anyhow::Result<Slot> {
        let Self { lab, number, name, .. } = self;
        let index = format!("/sys/class/net/{name}/ifindex");
        let bridge = fs::read_to_string(&index).with_context(|| format!("read {index}"))?.trim().parse()?;
        let (number, low) = (u8::try_from(*number)?, u8::try_from(slot + 2)?);
        let attachment = Attachment {
            name: format!("fl{number}x{slot}"),
            bridge,
            index: 1_000_000 + 1_000 * u32::from(number) + u32::from(low),
            address: [10, number, 0, low].into(),
            gateway: [10, number, 0, 1].into(),
            masquerade: self.case.masquerade,
        };
        let lease = self.leases.join(attachment.address.to_string()).display().to_string();
        let invocation = |verb: &str, messages: Vec<u8>, netns: String, content: &str| {
            let script = file(lab, &format!("{name}-{slot}-{verb}"));
            write(&script, messages)?;
            anyhow::Ok(Invocation {
                program: self.programs.join("floor"),
                arguments: vec![script.display().to_string(), netns, lease.clone(), content.to_string()],
                environment: Vec::new(),
                stdin: PathBuf::from("/dev/null"),
                output: file(lab, &format!("{name}-{slot}-{verb}.out")),
            })
        };
        let netns = ns.path().display().to_string();
        Ok(Slot {
            add: invocation("ADD", script::add(&attachment)?, netns, &format!("bench-{slot}\r\neth0"))?,
            del: invocation("DEL", script::del(&attachment), "-".to_string(), "")?,
        })
    }
}

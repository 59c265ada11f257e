//! `netctl capture`: the command line of [`crate::capture`].

use std::{
    fs::File,
    io::{BufWriter, Write, stderr, stdout},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use nix::sys::signal::{SigSet, Signal};

use crate::{
    agent::{nodes::Nodes, protocol::Captured},
    capture::{
        file::CaptureFile,
        filter::Filter,
        run::{self, End, Sink, Wish},
    },
    commands,
    exit::{Exit, Failure},
    output,
    verb::Context,
};

/// Captures packets of containers and hosts, on peers too, into one pcapng file or as lines of text.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Capture {
    /// Whose: containers, netns:PATH|NAME, pid:N, host, addresses; NODE/… on a peer; this host if none. One with a space in it is
    /// taken for the filter
    #[arg(value_name = "SELECTOR")]
    selectors: Vec<String>,
    /// The hosts of those containers too, where the tunnels are
    #[arg(long)]
    underlay: bool,
    /// Which packets, in the words of tcpdump; looks into tunnels
    #[arg(short, long, value_name = "FILTER")]
    filter: Option<String>,
    /// Write pcapng to this file, - for standard output
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after so many packets
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Bytes of each packet
    #[arg(short, long, value_name = "BYTES", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(64..=262_144))]
    snaplen: u32,
}

pub fn run(capture: Capture, context: &Context) -> Result<Exit, Failure> {
    let (filters, selectors): (Vec<_>, Vec<_>) =
        capture.selectors.into_iter().partition(|it| it.contains(' '));
    let filter = capture.filter.into_iter().chain(filters).map(|it| format!("({it})"));
    let filter = filter.collect::<Vec<_>>().join(" and ");
    filter.parse::<Filter>().map_err(|err| Failure::Usage(err.to_string()))?;
    let duration = capture.duration.map(Duration::try_from_secs_f64).transpose();
    let wish = Wish {
        selectors,
        underlay: capture.underlay,
        filter,
        snaplen: capture.snaplen,
        count: capture.count,
        duration: duration.map_err(|err| Failure::Usage(format!("--duration: {err}")))?,
    };
    // Before the agents' threads start: they take the signal mask over.
    let interrupted = on_interrupt()?;
    let mut nodes = Nodes::start(context.node.as_deref(), &context.peers, context.containers())?;
    let scene = run::find(&wish, &mut nodes)?;
    context.show_commands(|| {
        let places = scene.places();
        places.map(|(node, it)| commands::nodes::capture(&context.peers, node, it, &wish.filter)).collect()
    });
    let is_over = || interrupted.load(Ordering::Relaxed);
    let run::Gathered { end, missed } = match &capture.write {
        Some(path) => {
            let names = scene.names.clone();
            let out: Box<dyn Write> = match path.as_os_str() == "-" {
                true => Box::new(BufWriter::new(stdout())),
                false => Box::new(BufWriter::new(
                    File::create(path).with_context(|| format!("create {}", path.display()))?,
                )),
            };
            let mut file = CaptureFile::new(out, wish.snaplen, &names).context("write the capture")?;
            run::start(&wish, scene, &mut nodes)?;
            tell(context, &format!("capturing to {}", path.display()));
            file.flush().context("write the capture")?;
            let gathered =
                run::gather(&wish, &mut nodes, &is_over, &mut file).context("write the capture")?;
            summary(context, &file);
            gathered
        }
        None => {
            run::start(&wish, scene, &mut nodes)?;
            run::gather(&wish, &mut nodes, &is_over, &mut Lines)?
        }
    };
    if missed > 0 {
        tell(
            context,
            &format!("{} {missed} packets are missing: they came too fast", context.style.warning()),
        );
    }
    match end {
        End::Done => Ok(Exit::Fine),
        End::Failed(why) => Err(anyhow::anyhow!(why).into()),
    }
}

/// Text on standard output.
struct Lines;

impl Sink for Lines {
    fn packet(&mut self, node: &str, captured: &Captured) -> anyhow::Result<()> {
        output::write(&format!("{}\n", run::line(node, captured)));
        Ok(())
    }

    fn pause(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

fn summary<W: Write>(context: &Context, file: &CaptureFile<W>) {
    tell(context, &format!("{} packets", file.packets));
    for port in &file.vxlan_ports {
        tell(context, &format!("VXLAN on port {port}: read it with -d udp.port=={port},vxlan"));
    }
}

fn tell(context: &Context, line: &str) {
    if !context.quiet {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(stderr(), "{line}");
    }
}

/// Set when the user wants to end: the file is then completed instead of cut off.
fn on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().context("block signals")?;
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            raised.store(true, Ordering::Relaxed);
        }
    });
    Ok(flag)
}

const AFTER_HELP: &str = "\
Examples:
  netctl capture netns:c1 --underlay --filter 'port 80' -w out.pcapng
  netctl capture netns:c1 n2/netns:c2 --peer n2='ssh root@n2 netctl agent --stdio' -w - | wireshark -k -i -";

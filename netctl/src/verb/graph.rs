//! `netctl graph`: a picture of the hosts, their containers and what joins them.

use std::{
    fs,
    io::stdin,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::{
    agent::{
        peers::Asked,
        protocol::{Reply, Request},
    },
    commands,
    doctor::{self, Finding, examine},
    exit::{Exit, Failure},
    facts::tunnel::Report,
    graph::{
        model::{Host, Picture},
        page, svg, text,
    },
    output::{self, Drawing, Format},
    verb::Context,
};

/// Draws hosts, their tunnels, bridges and containers; what the doctor finds is red. `-o svg` (the default), `html` (one page with
/// search, for a browser without a network), `dot`, `mermaid`, `json`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Graph {
    /// Lay the way of a packet over it: what `netctl trace -o json` wrote, or - for standard input
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

pub fn run(graph: &Graph, context: &Context) -> Result<Exit, Failure> {
    let hops = graph.trace.as_ref().map(hops).transpose()?.unwrap_or_default();
    let (picture, exit) = picture(context, hops)?;
    output::write(&match (context.drawing, context.layout.format) {
        (Some(Drawing::Html), _) => page::page(&picture),
        (Some(Drawing::Dot), _) => text::dot(&picture),
        (Some(Drawing::Mermaid), _) => text::mermaid(&picture),
        (Some(Drawing::Svg), _) | (None, Format::Table | Format::Wide) => svg::svg(&picture),
        (None, format) => {
            let host = |host: &Host| serde_json::json!(host);
            let mut document = output::document("Graph", picture.hosts.iter().map(host).collect());
            document["findings"] = picture.findings.clone().into();
            match format {
                Format::Csv => return Err(Failure::Usage("-o csv: this is no table".to_owned())),
                Format::Yaml => output::yaml(&document),
                Format::Name => picture.hosts.iter().map(|host| format!("{}\n", host.name)).collect(),
                _ => format!("{document}\n"),
            }
        }
    });
    Ok(exit)
}

/// A picture with a packet's way in it, as the file's name ends: `.html`, else SVG.
pub(super) fn write(file: &Path, hops: Vec<Value>, context: &Context) -> Result<(), Failure> {
    let (picture, _) = picture(context, hops)?;
    let is_page = file.extension().is_some_and(|it| it == "html");
    let text = if is_page { page::page(&picture) } else { svg::svg(&picture) };
    Ok(fs::write(file, text).with_context(|| format!("write {}", file.display()))?)
}

/// This node and its peers, as they are now. Nothing is sent to try anything.
fn picture(context: &Context, hops: Vec<Value>) -> Result<(Picture, Exit), Failure> {
    let asked = Asked::new(&context.peers, &Request::Draw);
    let mut facts = context.facts()?;
    context.show_commands(|| commands::facts::everywhere(&facts, "ip -d addr"));
    let mut hosts = vec![Host::new(&facts)];
    let (replies, failed) = asked.replies();
    context.warn(&failed);
    let mut findings = Vec::new();
    for (node, reply) in replies {
        let Reply::Told(told) = reply else { continue };
        facts.reports.push(Report { node: node.clone(), ..told.report });
        findings.extend(told.findings.into_iter().filter_map(|wire| Finding::of_peer(&node, wire)));
        hosts.push(Host { name: node, ..told.host });
    }
    findings.extend(examine(&facts));
    doctor::sort(&mut findings);
    let findings = findings.iter().map(|found| found.json(&facts.node)).collect();
    let exit = if failed.is_empty() { Exit::Fine } else { Exit::Partial };
    Ok((Picture { hosts, findings, hops }, exit))
}

fn hops(file: &PathBuf) -> Result<Vec<Value>, Failure> {
    let document: Value = match file.as_os_str() == "-" {
        true => serde_json::from_reader(stdin().lock()).context("read a trace from standard input")?,
        false => {
            let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
            serde_json::from_slice(&bytes).with_context(|| format!("read a trace in {}", file.display()))?
        }
    };
    document["hops"].as_array().cloned().ok_or_else(|| {
        Failure::Usage(format!("{} is not what `netctl trace -o json` writes", file.display()))
    })
}

const AFTER_HELP: &str = "\
Examples:
  netctl graph -o svg                  to standard output; or html, dot, mermaid, json
  netctl graph -o html --peer n2='ssh root@n2 netctl agent --stdio'
  netctl graph -o html --trace trace.json";

//! `netctl overlay`: the networks of many hosts, as the agent of this one keeps them; and a peers file put into force without
//! an agent. Knows no kernel object: the agent and the overlay's library do.

use std::{
    io::{Write, stderr},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use cni::names::NetworkName;
use overlay::{
    agent::request::Request,
    apply::{self, MassRemoval, Report},
    client::{self, ClientError},
    config,
    directory::r#static,
    keeper::Dirs,
    machine::{offload::Checksums, report::Status},
    names::NodeName,
    state::Standing,
};
use serde_json::{Value, json};

use crate::{
    commands,
    exit::{Exit, Failure},
    output::{Reply, Table},
    verb::Context,
};

/// Shows the networks that span hosts, as overlayd on this host keeps them, and applies a peers file where no agent runs.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netctl overlay status")]
pub struct Overlay {
    /// Where overlayd listens
    #[arg(long, global = true, value_name = "PATH", default_value = client::SOCKET)]
    socket: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show this host's part in each network; status 1 if anything is not as it should be
    #[command(after_help = "Examples:\n  netctl overlay status\n  netctl overlay status lab -o json")]
    Status { network: Option<NetworkName> },
    /// List the other hosts of the networks, and the records that are refused, with the reason
    #[command(after_help = "Example:\n  netctl overlay peers lab -o wide")]
    Peers { network: Option<NetworkName> },
    /// List what the kernel lacks or has too much; status 1 if there is anything
    #[command(after_help = "Example:\n  netctl overlay difference lab")]
    Difference { network: NetworkName },
    /// Say that the peers which vanished from the directory at once are really gone
    #[command(after_help = "Example:\n  netctl overlay confirm lab")]
    Confirm { network: NetworkName },
    /// Bring this host to what a peers file says, once and without an agent
    #[command(
        after_help = "Examples:\n  netctl overlay apply /etc/tenon/overlay/lab.json\n  netctl overlay apply lab.json --node h2"
    )]
    Apply(Apply),
}

#[derive(Debug, Args)]
struct Apply {
    file: PathBuf,
    /// Remove peers even if more than half of them are no longer in the file
    #[arg(long)]
    remove_most: bool,
    /// Where plugins look for the network's local state
    #[arg(long, value_name = "DIR", default_value = config::RUN)]
    run: PathBuf,
    /// Where the last known peers are kept
    #[arg(long, value_name = "DIR", default_value = config::LIB)]
    lib: PathBuf,
}

pub fn run(overlay: &Overlay, context: &Context) -> Result<Exit, Failure> {
    let socket = overlay.socket.as_path();
    match &overlay.verb {
        Verb::Status { network } => {
            let statuses = statuses(socket, network.as_ref())?;
            show_commands(&statuses, context);
            context.write(&table(&statuses))?;
            Ok(if statuses.iter().all(is_well) { Exit::Fine } else { Exit::Finding })
        }
        Verb::Peers { network } => {
            let statuses = statuses(socket, network.as_ref())?;
            show_commands(&statuses, context);
            context.write(&peers(socket, &statuses)?)?;
            Ok(Exit::Fine)
        }
        Verb::Difference { network } => {
            show_commands(&statuses(socket, Some(network))?, context);
            difference(socket, network, context)
        }
        Verb::Confirm { network } => {
            show_commands(&statuses(socket, Some(network))?, context);
            ask(socket, &Request::Confirm { network: network.clone() })?;
            Ok(Exit::Fine)
        }
        Verb::Apply(apply) => put_into_force(apply, socket, context),
    }
}

fn show_commands(statuses: &[Status], context: &Context) {
    context.show_commands(|| {
        let tunnel = |status: &Status| commands::facts::tunnel(&status.device);
        statuses.iter().filter(|it| it.device_error.is_none()).flat_map(tunnel).collect()
    });
}

/// What the agent refuses is the user's mistake: a network that it does not have.
fn ask(socket: &Path, request: &Request) -> Result<Value, Failure> {
    client::ask(socket, request).map_err(|err| match err {
        ClientError::Refused(why) => Failure::Usage(why),
        err => Failure::CouldNotRun(err.into()),
    })
}

/// Of one network, or of all.
fn statuses(socket: &Path, network: Option<&NetworkName>) -> Result<Vec<Status>, Failure> {
    let answer = ask(socket, &Request::Status { network: network.cloned() })?;
    let list = if network.is_some() { json!([answer]) } else { answer };
    serde_json::from_value(list).map_err(|err| Failure::CouldNotRun(ClientError::Malformed(err).into()))
}

/// Containers can be attached, and reach all the others that the directory knows.
fn is_well(status: &Status) -> bool {
    let owns = matches!(status.standing, Standing::Owner { .. });
    let follows = status.directory == "following";
    owns && follows && status.in_sync && status.refused.is_empty() && status.held == 0
}

fn table(statuses: &[Status]) -> Reply {
    Reply {
        kind: "OverlayNetworks",
        items: statuses.iter().map(|status| json!(status)).collect(),
        names: statuses.iter().map(|status| status.network.clone()).collect(),
        table: Table {
            columns: &[
                "NETWORK",
                "NODE",
                "SUBNETS",
                "DEVICE",
                "MTU",
                "UNDERLAY",
                "DIRECTORY",
                "PEERS",
                "STATE",
            ],
            wide: &["OBJECTS", "REFUSED", "HELD", "REPAIRS", "CHECKSUMS"],
            rows: statuses.iter().map(cells).collect(),
        },
    }
}

fn cells(status: &Status) -> Vec<String> {
    vec![
        status.network.clone(),
        status.node.to_string(),
        status.standing.subnets().iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        status.device.clone(),
        status.mtu.map(|mtu| mtu.to_string()).unwrap_or_default(),
        status.underlay.clone().unwrap_or_default(),
        status.directory.clone(),
        status.peers.to_string(),
        state(status),
        status.objects.to_string(),
        status.refused.len().to_string(),
        status.held.to_string(),
        status.counters.repairs.to_string(),
        match status.checksums {
            Checksums::Offloaded => "offloaded".into(),
            Checksums::Software => "software".into(),
        },
    ]
}

/// The worst that there is to say of a network.
fn state(status: &Status) -> String {
    if let Some(why) = &status.device_error {
        return format!("no device: {why}");
    }
    match &status.standing {
        Standing::Waiting { why } => return format!("no subnet: {why}"),
        Standing::Lost { why, .. } => return format!("subnet lost: {why}"),
        Standing::Owner { .. } => {}
    }
    if let Some(why) = &status.directory_error {
        let seconds = status.directory_lost_seconds.unwrap_or_default();
        return format!("directory lost for {seconds} s: {why}");
    }
    match (status.held, status.refused.len()) {
        (0, 0) if status.in_sync => "ok".into(),
        (0, 0) => "converging".into(),
        (0, refused) => format!("{refused} records refused"),
        (held, _) => format!("{held} peers held back"),
    }
}

fn peers(socket: &Path, statuses: &[Status]) -> Result<Reply, Failure> {
    let (mut items, mut names, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for status in statuses {
        let network: NetworkName = status.network.parse().map_err(anyhow::Error::from)?;
        let answer = ask(socket, &Request::Peers { network })?;
        for (node, peer) in answer.as_object().into_iter().flatten() {
            let text = |key: &str| peer[key].as_str().unwrap_or_default().to_owned();
            let subnets = peer["subnets"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let subnets: Vec<_> = subnets.collect();
            rows.push(vec![
                status.network.clone(),
                node.clone(),
                text("underlay"),
                subnets.join(","),
                "ok".into(),
                text("mac"),
            ]);
            items.push(
                json!({"network": status.network, "node": node, "state": "ok", "underlay": peer["underlay"],
                "mac": peer["mac"], "subnets": peer["subnets"], "key": null, "why": null}),
            );
            names.push(node.clone());
        }
        for (key, why) in &status.refused {
            let state = format!("refused: {why}");
            rows.push(vec![
                status.network.clone(),
                key.clone(),
                String::new(),
                String::new(),
                state,
                String::new(),
            ]);
            items.push(json!({"network": status.network, "node": null, "state": "refused", "underlay": null,
                "mac": null, "subnets": [], "key": key, "why": why}));
            names.push(key.clone());
        }
    }
    let columns = &["NETWORK", "PEER", "UNDERLAY", "SUBNETS", "STATE"];
    Ok(Reply { kind: "OverlayPeers", items, names, table: Table { columns, wide: &["MAC"], rows } })
}

fn difference(socket: &Path, network: &NetworkName, context: &Context) -> Result<Exit, Failure> {
    let answer = ask(socket, &Request::Difference { network: network.clone() })?;
    let changes: Vec<_> =
        answer["changes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let reply = Reply {
        kind: "OverlayDifference",
        items: changes.iter().map(|change| json!({"network": network, "change": change})).collect(),
        names: changes.iter().map(|change| (*change).to_owned()).collect(),
        table: Table {
            columns: &["NETWORK", "CHANGE"],
            wide: &[],
            rows: changes.iter().map(|change| vec![network.to_string(), (*change).to_owned()]).collect(),
        },
    };
    context.write(&reply)?;
    Ok(if changes.is_empty() { Exit::Fine } else { Exit::Finding })
}

fn put_into_force(apply: &Apply, socket: &Path, context: &Context) -> Result<Exit, Failure> {
    let Apply { file, remove_most, run, lib } = apply;
    let peers = r#static::read(file).map_err(|err| Failure::Usage(err.to_string()))?;
    let network = peers.definition.name;
    // Only an agent that answers for this network would undo what is done here.
    if client::ask(socket, &Request::Status { network: Some(network.clone()) }).is_ok() {
        let socket = socket.display();
        return Err(Failure::Usage(format!(
            "network {network} is kept by the agent on {socket}: change the file that it reads"
        )));
    }
    let node: NodeName = match &context.node {
        Some(name) => name.parse().map_err(|err| Failure::Usage(format!("--node: {err}")))?,
        None => config::host_name().map_err(anyhow::Error::from)?,
    };
    let dirs = Dirs { run: run.clone(), lib: lib.clone() };
    let mass = if *remove_most { MassRemoval::Allow } else { MassRemoval::Hold };
    let Report { status, log } = apply::apply(file, &node, dirs, mass).map_err(anyhow::Error::from)?;
    for (level, text) in log.iter().filter(|(level, _)| !context.quiet || *level <= log::Level::Warn) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(stderr(), "{}: {text}", level.as_str().to_lowercase());
    }
    show_commands(std::slice::from_ref(&status), context);
    context.write(&table(std::slice::from_ref(&status)))?;
    Ok(if is_well(&status) { Exit::Fine } else { Exit::Finding })
}

//! `tuning`: settings of the container's interface and of its network.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use attach::{check::failed, container::Container, failures::Failures, record::Records};
use cni::{
    names::{Attachment, IfName, NetnsPath, NetworkName},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};
use kernel::{
    link::{self, Link, Mtu, change::Change},
    mac::MacAddr,
    sysctl,
};
use serde::{Deserialize, Serialize};

use crate::stale::detach_each;

pub(crate) mod config;

use self::config::Config;

/// The plugin of type `tuning`.
#[derive(Debug)]
pub struct Tuning;

/// What was before: the record's data, and the form in which the reference keeps it in `dataDir`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Before {
    mac: String,
    promisc: Option<bool>,
    mtu: u32,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    txqlen: Option<u32>,
    /// By path below /proc/sys. Not in the reference.
    sysctl: BTreeMap<String, String>,
}

impl Plugin for Tuning {
    const NAME: &'static str = NAME;

    fn add(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        let config = Config::new(request, &attachment.ifname)?;
        let mut result = request.required_prev_result()?;
        if config.is_empty() {
            return Ok(result);
        }
        let mut container = Container::open(netns)?;
        let link = link::by_name(&mut container.netlink, attachment.ifname.as_str())?;
        let records = records(&attachment.network);
        // An ADD that was killed may have changed something: what was before is what it wrote down.
        let before = match records.find::<Before>(attachment)? {
            Some((_, before)) => before.with(Before::of(&mut container, &config, &link)?),
            None => Before::of(&mut container, &config, &link)?,
        };
        records.begin(attachment, &before)?;
        let applied = apply(&mut container, &config, &link);
        applied.and_then(|()| Ok(records.complete(attachment)?)).inspect_err(|_| {
            if let Err(err) = before.restore(&mut container, &attachment.ifname) {
                log::error!("{attachment}: after a failed ADD: {err:#}");
            } else if let Err(err) = records.forget(attachment) {
                log::error!("{attachment}: after a failed ADD: {err}");
            }
        })?;
        for interface in &mut result.interfaces {
            if interface.name == attachment.ifname.as_str() && !interface.sandbox.is_empty() {
                interface.mac = config.mac.map_or_else(|| interface.mac.clone(), |mac| mac.to_string());
                interface.mtu = config.mtu.map(u32::from).or(interface.mtu);
            }
        }
        Ok(result)
    }

    fn del(request: &Request, attachment: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        let records = records(&attachment.network);
        let file = backup_of_the_go_plugin(request, attachment);
        let recorded = failures.note(records.find::<Before>(attachment)).flatten().map(|(_, before)| before);
        if let Some(before) = recorded.or_else(|| read(&file))
            && let Some(Some(mut container)) = failures.note(Container::open_if_there(netns))
        {
            failures.note(before.restore(&mut container, &attachment.ifname));
        }
        if failures.is_empty() {
            failures.note(remove(&file));
            failures.note(records.remove(attachment));
            failures.note(records.retire());
        }
        failures.into_result()
    }

    fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
        let config = Config::new(request, &attachment.ifname)?;
        request.required_prev_result()?;
        let mut container = Container::open(netns)?;
        let link = link::by_name(&mut container.netlink, attachment.ifname.as_str())?;
        let name = &link.name;
        let Config { sysctls, mac, promiscuous, mtu, allmulticast, txqlen } = config;
        let checks = [
            (mac.is_some_and(|mac| link.mac != Some(mac)), "MAC address"),
            (promiscuous && !link.is_promiscuous(), "promiscuous mode"),
            (mtu.is_some_and(|mtu| link.mtu != u32::from(mtu)), "MTU"),
            (allmulticast.is_some_and(|on| link.is_allmulticast() != on), "all-multicast mode"),
            (txqlen.is_some_and(|length| link.txqlen != length), "length of the transmit queue"),
        ];
        if let Some((_, what)) = checks.iter().find(|(differs, _)| *differs) {
            return Err(failed(format!("{name} has another {what}")).into());
        }
        for (path, value) in sysctls {
            let there = container.netns.run(|| sysctl::read(&path))??;
            if !there.split_whitespace().eq(value.split_whitespace()) {
                return Err(failed(format!("sysctl {path} is {there:?}, not {value:?}")).into());
            }
        }
        Ok(())
    }

    /// The settings went with the namespaces.
    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        detach_each(NAME, request, valid, &mut failures, |attachment, _: Before| {
            Ok(records(&attachment.network).forget(attachment)?)
        });
        failures.into_result()
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        // Any name stands for the interface, which nobody asks about.
        Config::new(request, &"eth0".parse()?)?;
        Ok(())
    }
}

impl Before {
    /// What the configuration is going to change.
    fn of(container: &mut Container, config: &Config, link: &Link) -> anyhow::Result<Self> {
        let Config { sysctls, mac, promiscuous, mtu, allmulticast, txqlen } = config;
        let read = |path: &String| Ok((path.clone(), sysctl::read(path)?));
        let values: kernel::error::Result<_> = container.netns.run(|| sysctls.keys().map(read).collect())?;
        Ok(Self {
            mac: mac.and(link.mac).map(|mac| mac.to_string()).unwrap_or_default(),
            promisc: promiscuous.then(|| link.is_promiscuous()),
            mtu: mtu.map_or(0, |_| link.mtu),
            allmulti: allmulticast.map(|_| link.is_allmulticast()),
            txqlen: txqlen.map(|_| link.txqlen),
            sysctl: values?,
        })
    }

    /// This, and of the other what this does not say.
    fn with(self, other: Self) -> Self {
        let Self { mac, promisc, mtu, allmulti, txqlen, sysctl } = self;
        let mut all = other.sysctl;
        all.extend(sysctl);
        Self {
            mac: if mac.is_empty() { other.mac } else { mac },
            promisc: promisc.or(other.promisc),
            mtu: if mtu == 0 { other.mtu } else { mtu },
            allmulti: allmulti.or(other.allmulti),
            txqlen: txqlen.or(other.txqlen),
            sysctl: all,
        }
    }

    /// Puts it back, if the interface is still there. Goes on past errors.
    fn restore(&self, container: &mut Container, ifname: &IfName) -> anyhow::Result<()> {
        let Self { mac, promisc, mtu, allmulti, txqlen, sysctl } = self;
        let mut failures = Failures::default();
        if let Some(link) = link::find(&mut container.netlink, ifname.as_str())? {
            let dev = link.dev();
            let mut requests = Vec::new();
            if let Ok(mtu) = Mtu::try_from(*mtu) {
                requests.push(link::change(&dev).mtu(mtu).request());
            }
            if let Ok(mac) = mac.parse::<MacAddr>() {
                requests.push(link::change(&dev).mac(mac).request());
            }
            requests.extend(promisc.map(|on| link::change(&dev).promiscuous(on).request()));
            requests.extend(allmulti.map(|on| link::change(&dev).allmulticast(on).request()));
            requests.extend(txqlen.map(|length| link::change(&dev).txqlen(length).request()));
            for request in requests {
                failures.note(container.netlink.execute(request));
            }
        }
        let written: Vec<_> = container
            .netns
            .run(|| sysctl.iter().rev().map(|(path, value)| sysctl::write(path, value)).collect())?;
        for result in written {
            match result {
                // Of an interface that is gone.
                Err(err) if err.is_missing() => {}
                result => {
                    failures.note(result);
                }
            }
        }
        failures.into_result()
    }
}

fn apply(container: &mut Container, config: &Config, link: &Link) -> anyhow::Result<()> {
    let Config { sysctls, mac, promiscuous, mtu, allmulticast, txqlen } = config;
    let dev = link.dev();
    let change = || link::change(&dev);
    container.netns.run(|| sysctls.iter().try_for_each(|(path, value)| sysctl::write(path, value)))??;
    let requests = [
        mac.map(|mac| change().mac(mac)),
        promiscuous.then(|| change().promiscuous(true)),
        mtu.map(|mtu| change().mtu(mtu)),
        allmulticast.map(|on| change().allmulticast(on)),
        txqlen.map(|length| change().txqlen(length)),
    ];
    let requests: Vec<_> = requests.into_iter().flatten().map(Change::request).collect();
    Ok(container.netlink.batch(&requests)?)
}

fn backup_of_the_go_plugin(request: &Request, attachment: &Attachment) -> PathBuf {
    let Attachment { container, ifname, .. } = attachment;
    PathBuf::from(config::data_dir(request)).join(format!("{container}_{ifname}.json"))
}

fn read(file: &PathBuf) -> Option<Before> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

fn remove(file: &PathBuf) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn records(network: &NetworkName) -> Records {
    Records::of(NAME, network)
}

const NAME: &str = "tuning";

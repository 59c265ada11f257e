//! `static`: the addresses, routes and resolver settings that the configuration or the runtime names. Keeps no state,
//! and so knows no conflicts either.

use anyhow::bail;
use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::{AddResult, IpConfig},
    run::Plugin,
};

pub(crate) mod config;
use config::Config;

/// The plugin.
pub struct Static;

impl Plugin for Static {
    const NAME: &'static str = "static";

    fn add(request: &Request, _: &Attachment, _: &NetnsPath) -> anyhow::Result<AddResult> {
        let Config { addresses, routes, dns } = Config::parse(request)?;
        Ok(AddResult { interfaces: Vec::new(), ips: addresses, routes, dns })
    }

    fn del(_: &Request, _: &Attachment, _: Option<&NetnsPath>) -> anyhow::Result<()> {
        Ok(())
    }

    /// Every configured address is in prevResult, with its gateway where the configuration names one.
    fn check(request: &Request, at: &Attachment, _: &NetnsPath) -> anyhow::Result<()> {
        let previous = request.required_prev_result()?;
        for IpConfig { interface: _, address, gateway } in Config::parse(request)?.addresses {
            let Some(found) = previous.ips.iter().find(|ip| ip.address == address) else {
                bail!("{at}: address {address} is not in prevResult");
            };
            if let Some(gateway) = gateway.filter(|gateway| found.gateway != Some(*gateway)) {
                let found = found.gateway.map_or_else(|| "none".to_owned(), |gateway| gateway.to_string());
                bail!("{at}: address {address} has gateway {found} in prevResult, not {gateway}");
            }
        }
        Ok(())
    }

    fn gc(_: &Request, _: &ValidAttachments) -> anyhow::Result<()> {
        Ok(())
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        Config::parse(request)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! The agent's command line, as the reference's agent has it: Go's flags, with one dash or two.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};

use crate::{config::DEFAULT_SOCKET, exchange::Pace};

/// What the agent was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) pidfile: Option<PathBuf>,
    /// Where the host's root is mounted.
    pub(super) host_prefix: String,
    /// Below that.
    pub(super) socket: PathBuf,
    pub(super) broadcast: bool,
    pub(super) pace: Pace,
    /// How long an allocation may take.
    pub(super) give_up: Duration,
}

impl Flags {
    pub(super) fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut flags = Self {
            pidfile: None,
            host_prefix: String::new(),
            socket: PathBuf::new(),
            broadcast: false,
            pace: Pace::default(),
            give_up: Duration::from_secs(208),
        };
        let mut socket = DEFAULT_SOCKET.to_owned();
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                bail!("{argument:?} is no flag\n{USAGE}");
            };
            let (name, given) =
                flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
            let mut value = || {
                given
                    .clone()
                    .or_else(|| arguments.next())
                    .with_context(|| format!("-{name} needs a value\n{USAGE}"))
            };
            match name {
                "pidfile" => {
                    flags.pidfile =
                        Some(value()?.into()).filter(|path: &PathBuf| !path.as_os_str().is_empty())
                }
                "hostprefix" => flags.host_prefix = value()?,
                "socketpath" => socket = Some(value()?).filter(|path| !path.is_empty()).unwrap_or(socket),
                "broadcast" => {
                    flags.broadcast = given.as_deref().is_none_or(|on| matches!(on, "true" | "1" | "t"))
                }
                "timeout" => flags.pace.timeout = duration(name, &value()?)?,
                "resendmax" => flags.pace.resend_max = duration(name, &value()?)?,
                "resendtimeout" => flags.give_up = duration(name, &value()?)?,
                _ => bail!("-{name} is no flag of the agent\n{USAGE}"),
            }
        }
        flags.socket = PathBuf::from(format!("{}{socket}", flags.host_prefix));
        Ok(flags)
    }
}

/// Go's notation: `1h2m3.5s`, `300ms`.
fn duration(flag: &str, text: &str) -> anyhow::Result<Duration> {
    let malformed = || format!("-{flag} {text:?}: is no duration like 10s or 1m30s\n{USAGE}");
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).with_context(malformed)?;
        let (number, after) = rest.split_at(unit_at);
        let unit_ends = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_ends);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => bail!("{}", malformed()),
        };
        let number: f64 = number.parse().with_context(malformed)?;
        total += Duration::try_from_secs_f64(number * seconds).with_context(malformed)?;
        rest = next;
    }
    if text.is_empty() { bail!("{}", malformed()) } else { Ok(total) }
}

const USAGE: &str = "usage: dhcp daemon [-pidfile FILE] [-hostprefix DIR] [-socketpath FILE] [-broadcast]
                   [-timeout 10s] [-resendmax 62s] [-resendtimeout 208s]";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, String> {
        Flags::parse(line.split_whitespace().map(str::to_owned)).map_err(|err| err.to_string())
    }

    #[test]
    fn the_references_flags() {
        let flags = parse("").unwrap();
        assert_eq!((flags.socket, flags.give_up), (DEFAULT_SOCKET.into(), Duration::from_secs(208)));
        let line = "-pidfile /run/p --hostprefix /host -socketpath=/run/x.sock -broadcast -timeout 1m1.5s -resendmax=300ms -resendtimeout 1h";
        assert_eq!(
            parse(line).unwrap(),
            Flags {
                pidfile: Some("/run/p".into()),
                host_prefix: "/host".into(),
                socket: "/host/run/x.sock".into(),
                broadcast: true,
                pace: Pace { timeout: Duration::from_millis(61_500), resend_max: Duration::from_millis(300) },
                give_up: Duration::from_secs(3600),
            }
        );
        for wrong in [
            "x",
            "-nope",
            "-timeout",
            "-timeout 10",
            "-timeout s",
            "-timeout 1y",
            "-timeout 1.2.3s",
            "-timeout 99999999999999999999h",
        ] {
            assert!(parse(wrong).unwrap_err().contains("usage:"), "{wrong}");
        }
    }
}

//! The configuration of `bandwidth`, raw and checked.

use cni::{error::Error, request::Request};
use ipnetwork::IpNetwork;
use kernel::qdisc::split::HeldBack;
use serde::Deserialize;

/// The configuration as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NetConf {
    ingress_rate: Option<u64>,
    ingress_burst: Option<u64>,
    egress_rate: Option<u64>,
    egress_burst: Option<u64>,
    shaped_subnets: Vec<String>,
    unshaped_subnets: Vec<String>,
    runtime_config: RuntimeConf,
}

/// `runtimeConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RuntimeConf {
    bandwidth: Option<RatesConf>,
}

/// `runtimeConfig.bandwidth`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RatesConf {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
    shaped_subnets: Vec<String>,
    unshaped_subnets: Vec<String>,
}

/// The configuration, checked: what limits each direction, as the container sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) ingress: Option<Limit>,
    pub(super) egress: Option<Limit>,
    /// Of whom the container talks to; `None` for everybody.
    pub(super) peers: Option<(HeldBack, Vec<IpNetwork>)>,
}

/// Bytes a second, and bytes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) rate: u64,
    pub(super) burst: u32,
}

impl Config {
    pub(super) fn new(request: &Request) -> Result<Self, Error> {
        let NetConf {
            ingress_rate,
            ingress_burst,
            egress_rate,
            egress_burst,
            shaped_subnets,
            unshaped_subnets,
            runtime_config: RuntimeConf { bandwidth },
        } = request.decode()?;
        // As in the reference what the network says of rates beats what the runtime says, and as a whole.
        let stated = [ingress_rate, ingress_burst, egress_rate, egress_burst];
        let of_runtime = bandwidth.unwrap_or_default();
        let (prefix, rates) = if stated.iter().any(Option::is_some) {
            ("", stated.map(Option::unwrap_or_default))
        } else {
            let RatesConf { ingress_rate, ingress_burst, egress_rate, egress_burst, .. } = of_runtime;
            (RUNTIME, [ingress_rate, ingress_burst, egress_rate, egress_burst])
        };
        let [ingress_rate, ingress_burst, egress_rate, egress_burst] = rates;
        // Of subnets too, whoever says the rates.
        let peers = match peers("", &shaped_subnets, &unshaped_subnets)? {
            None => peers(RUNTIME, &of_runtime.shaped_subnets, &of_runtime.unshaped_subnets)?,
            stated => stated,
        };
        Ok(Self {
            ingress: limit(prefix, "ingress", ingress_rate, ingress_burst)?,
            egress: limit(prefix, "egress", egress_rate, egress_burst)?,
            peers,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

/// Of bits. A burst that is not given is what passes in a hundredth of a second, but no less than some packets.
fn limit(prefix: &str, direction: &str, rate: u64, burst: u64) -> Result<Option<Limit>, Error> {
    let field = |name| format!("{prefix}{direction}{name}");
    if rate == 0 {
        return match burst {
            0 => Ok(None),
            _ => Err(Error::invalid_config(&field("Burst"), burst, "needs a rate beside it")),
        };
    }
    if rate < BITS {
        return Err(Error::invalid_config(&field("Rate"), rate, "is less than a byte a second"));
    }
    let rate = rate / BITS;
    let bytes = if burst == 0 { (rate / 100).max(LEAST_BURST) } else { (burst / BITS).max(1) };
    match u32::try_from(bytes) {
        Ok(burst) if burst < u32::MAX => Ok(Some(Limit { rate, burst })),
        _ if burst == 0 => Ok(Some(Limit { rate, burst: u32::MAX - 1 })),
        _ => Err(Error::invalid_config(&field("Burst"), burst, "is 4 GiB or more")),
    }
}

/// As in the reference both at once are an error.
fn peers(
    prefix: &str,
    shaped: &[String],
    unshaped: &[String],
) -> Result<Option<(HeldBack, Vec<IpNetwork>)>, Error> {
    let (name, held_back, subnets) = match (shaped, unshaped) {
        ([], []) => return Ok(None),
        (shaped, []) => ("shapedSubnets", HeldBack::Subnets, shaped),
        ([], unshaped) => ("unshapedSubnets", HeldBack::Others, unshaped),
        (shaped, _) => {
            let (field, why) = (format!("{prefix}shapedSubnets"), "can't be with unshapedSubnets");
            return Err(Error::invalid_config(&field, format!("{shaped:?}"), why));
        }
    };
    let mut parsed = Vec::new();
    for (index, text) in subnets.iter().enumerate() {
        let field = format!("{prefix}{name}[{index}]");
        let bad = || Error::invalid_config(&field, format!("{text:?}"), "is no subnet, such as 10.0.0.0/8");
        let subnet: IpNetwork = text.parse().ok().filter(|_| text.contains('/')).ok_or_else(bad)?;
        parsed.push(IpNetwork::new(subnet.network(), subnet.prefix()).map_err(|_| bad())?);
    }
    parsed.sort();
    parsed.dedup();
    Ok(Some((held_back, parsed)))
}

const RUNTIME: &str = "runtimeConfig.bandwidth.";
const BITS: u64 = 8;
const LEAST_BURST: u64 = 32 * 1024;

#[cfg(test)]
mod tests {
    use cni::request::{Command, Request};
    use serde_json::{Value, json};

    use super::{Config, HeldBack, Limit};

    fn config(more: Value) -> Result<Config, String> {
        let mut config = json!({"cniVersion": "1.1.0", "name": "n", "type": "bandwidth"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request =
            Request::parse(Command::Add, config.to_string().into_bytes(), |_| String::new()).unwrap();
        Config::new(&request).map_err(|err| err.msg)
    }

    #[track_caller]
    fn check(more: Value, ingress: Option<(u64, u32)>, egress: Option<(u64, u32)>) {
        let limit = |(rate, burst)| Limit { rate, burst };
        let expected = Config { ingress: ingress.map(limit), egress: egress.map(limit), peers: None };
        assert_eq!(config(more), Ok(expected));
    }

    #[test]
    fn rates_and_bursts() {
        check(json!({}), None, None);
        check(json!({"ingressRate": 8000, "ingressBurst": 80000}), Some((1000, 10000)), None);
        check(json!({"egressRate": 80_000_000}), None, Some((10_000_000, 100_000)));
        check(json!({"egressRate": 8000}), None, Some((1000, 32 * 1024)));
        let runtime = json!({"bandwidth": {"ingressRate": 8000, "ingressBurst": 8000}});
        check(json!({"runtimeConfig": runtime}), Some((1000, 1000)), None);
        check(
            json!({"egressRate": 16000, "egressBurst": 8000, "runtimeConfig": runtime}),
            None,
            Some((2000, 1000)),
        );
        check(json!({"ingressRate": 0, "ingressBurst": 0, "runtimeConfig": runtime}), None, None);
        check(json!({"runtimeConfig": {"bandwidth": null}}), None, None);
    }

    #[test]
    fn subnets() {
        let runtime = json!({"bandwidth": {"ingressRate": 8000, "shapedSubnets": ["192.0.2.0/24"]}});
        for (more, held_back, expected) in [
            (
                json!({"shapedSubnets": ["fd00::1/8", "10.1.2.3/8", "10.0.0.0/8"]}),
                HeldBack::Subnets,
                "10.0.0.0/8 fd00::/8",
            ),
            (
                json!({"unshapedSubnets": ["10.0.0.0/8"], "shapedSubnets": null}),
                HeldBack::Others,
                "10.0.0.0/8",
            ),
            (json!({}), HeldBack::Subnets, "192.0.2.0/24"),
            // The network's own beat the runtime's, whose rate stays.
            (json!({"unshapedSubnets": ["10.0.0.0/8"]}), HeldBack::Others, "10.0.0.0/8"),
        ] {
            let mut more = more;
            more["runtimeConfig"] = runtime.clone();
            let config = config(more).unwrap();
            let (found, subnets) = config.peers.unwrap();
            let subnets: Vec<_> = subnets.iter().map(ToString::to_string).collect();
            assert_eq!((found, subnets.join(" ").as_str()), (held_back, expected));
            assert!(config.ingress.is_some());
        }
    }

    #[test]
    fn what_can_t_be() {
        for (more, expected) in [
            (json!({"ingressBurst": 8}), "ingressBurst: 8: needs a rate beside it"),
            (
                json!({"runtimeConfig": {"bandwidth": {"egressRate": 7}}}),
                "runtimeConfig.bandwidth.egressRate: 7: is less than a byte a second",
            ),
            (
                json!({"egressRate": 8, "egressBurst": 34_359_738_368_u64}),
                "egressBurst: 34359738368: is 4 GiB or more",
            ),
            (
                json!({"shapedSubnets": ["10.0.0.0/8"], "unshapedSubnets": ["fd00::/8"]}),
                "shapedSubnets: [\"10.0.0.0/8\"]: can't be with unshapedSubnets",
            ),
            (
                json!({"runtimeConfig": {"bandwidth": {"unshapedSubnets": ["10.0.0.0/8", "hello"]}}}),
                "runtimeConfig.bandwidth.unshapedSubnets[1]: \"hello\": is no subnet, such as 10.0.0.0/8",
            ),
            (
                json!({"unshapedSubnets": ["10.0.0.1"]}),
                "unshapedSubnets[0]: \"10.0.0.1\": is no subnet, such as 10.0.0.0/8",
            ),
        ] {
            assert_eq!(config(more).unwrap_err(), expected);
        }
    }
}

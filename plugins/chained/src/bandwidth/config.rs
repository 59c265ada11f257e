//! The configuration of `bandwidth`, raw and checked.

use cni::{error::Error, request::Request};
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
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RatesConf {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
}

/// The configuration, checked: what limits each direction, as the container sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) ingress: Option<Limit>,
    pub(super) egress: Option<Limit>,
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
        for (field, subnets) in [("shapedSubnets", &shaped_subnets), ("unshapedSubnets", &unshaped_subnets)] {
            if !subnets.is_empty() {
                let why = "limits by subnet are not served: the reference had them in 1.5 only";
                return Err(Error::unsupported_field(field, format!("{subnets:?}"), why));
            }
        }
        // As in the reference what the network says beats what the runtime says, and as a whole.
        let stated = [ingress_rate, ingress_burst, egress_rate, egress_burst];
        let (prefix, rates) = if stated.iter().any(Option::is_some) {
            let [ingress_rate, ingress_burst, egress_rate, egress_burst] =
                stated.map(Option::unwrap_or_default);
            ("", RatesConf { ingress_rate, ingress_burst, egress_rate, egress_burst })
        } else {
            ("runtimeConfig.bandwidth.", bandwidth.unwrap_or_default())
        };
        let RatesConf { ingress_rate, ingress_burst, egress_rate, egress_burst } = rates;
        Ok(Self {
            ingress: limit(prefix, "ingress", ingress_rate, ingress_burst)?,
            egress: limit(prefix, "egress", egress_rate, egress_burst)?,
        })
    }

    pub(super) fn is_empty(self) -> bool {
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

const BITS: u64 = 8;
const LEAST_BURST: u64 = 32 * 1024;

#[cfg(test)]
mod tests {
    use cni::request::{Command, Request};
    use serde_json::{Value, json};

    use super::{Config, Limit};

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
        let expected = Config { ingress: ingress.map(limit), egress: egress.map(limit) };
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
                json!({"shapedSubnets": ["10.0.0.0/8"]}),
                "shapedSubnets: [\"10.0.0.0/8\"]: limits by subnet are not served: the reference had them in 1.5 only",
            ),
        ] {
            assert_eq!(config(more).unwrap_err(), expected);
        }
    }
}

//! `CNI_ARGS`: `KEY=VALUE` pairs between semicolons, as the reference library reads them (`pkg/types/args.go`).

use std::net::IpAddr;

use crate::error::{Code, Error};

/// What `CNI_ARGS` held. The keys that the reference plugins read are named; any other is an error unless
/// `IgnoreUnknown` says otherwise, as it does in every call of a Kubernetes runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// `IP`: requested addresses between commas, each with or without a prefix length; not parsed here.
    pub ip: Vec<String>,
    /// `GATEWAY`: addresses between commas.
    pub gateway: Vec<IpAddr>,
    /// `MAC`: not parsed here.
    pub mac: Option<String>,
}

impl Args {
    /// Reads the variable. Fails (code 4) on a pair that is not `KEY=VALUE`, on a value that can't be, and on a key
    /// nobody knows without `IgnoreUnknown=1` or `true`.
    pub fn parse(args: &str) -> Result<Self, Error> {
        let mut parsed = Self::default();
        let mut unknown = Vec::new();
        let mut ignore_unknown = false;
        for pair in args.split(';').filter(|pair| !pair.is_empty()) {
            let mut parts = pair.split('=');
            let (Some(key), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
                return Err(invalid(&format!("{pair:?} is not KEY=VALUE")));
            };
            match key {
                "IP" => parsed.ip = list(value).map(str::to_owned).collect(),
                "GATEWAY" => {
                    parsed.gateway =
                        list(value).map(|gateway| address("GATEWAY", gateway)).collect::<Result<_, _>>()?;
                }
                "MAC" => parsed.mac = Some(value.to_owned()).filter(|mac| !mac.is_empty()),
                "IgnoreUnknown" => ignore_unknown = boolean(value)?,
                _ => unknown.push(pair),
            }
        }
        if !unknown.is_empty() && !ignore_unknown {
            return Err(invalid(&format!("unknown args {unknown:?} (IgnoreUnknown=1 lets them pass)")));
        }
        Ok(parsed)
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn address(key: &str, value: &str) -> Result<IpAddr, Error> {
    value.parse().map_err(|_| invalid(&format!("{key}: {value:?} is not an IP address")))
}

fn boolean(value: &str) -> Result<bool, Error> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(invalid(&format!("IgnoreUnknown: {value:?} is not a boolean"))),
    }
}

fn invalid(why: &str) -> Error {
    Error::new(Code::InvalidEnvironment, format!("CNI_ARGS: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse() {
        fn check(input: &str, expected: Result<Args, &str>) {
            assert_eq!(Args::parse(input).map_err(|e| e.msg), expected.map_err(str::to_owned), "{input:?}");
        }
        check("", Ok(Args::default()));
        check(";;", Ok(Args::default()));
        check(
            "IP=10.1.0.5,fd00::5/64;MAC=02:00:00:00:00:01;GATEWAY=10.1.0.1, fd00::1",
            Ok(Args {
                ip: vec!["10.1.0.5".into(), "fd00::5/64".into()],
                gateway: vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
                mac: Some("02:00:00:00:00:01".into()),
            }),
        );
        check("IgnoreUnknown=1;K8S_POD_NAME=web-0;K8S_POD_UID=", Ok(Args::default()));
        check("K8S_POD_NAME=web-0;IgnoreUnknown=TRUE", Ok(Args::default()));
        check("IP=", Ok(Args::default()));
        check(
            "K8S_POD_NAME=a",
            Err("CNI_ARGS: unknown args [\"K8S_POD_NAME=a\"] (IgnoreUnknown=1 lets them pass)"),
        );
        check(
            "ip=10.1.0.5",
            Err("CNI_ARGS: unknown args [\"ip=10.1.0.5\"] (IgnoreUnknown=1 lets them pass)"),
        );
        check("IP", Err("CNI_ARGS: \"IP\" is not KEY=VALUE"));
        check("IP=a=b", Err("CNI_ARGS: \"IP=a=b\" is not KEY=VALUE"));
        check("GATEWAY=x", Err("CNI_ARGS: GATEWAY: \"x\" is not an IP address"));
        check("IgnoreUnknown=perhaps", Err("CNI_ARGS: IgnoreUnknown: \"perhaps\" is not a boolean"));
    }
}

//! The dhcp plugin's configuration: `NetConf` as it is written, `Config` as it was understood.

use std::{fmt, path::PathBuf};

use cni::{error::Error, names::Attachment, request::Request};
use serde::{Deserialize, Serialize};

/// The part of a network's configuration that the plugin reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NetConf {
    pub ipam: IpamConf,
}

/// `ipam`, as it is written. Each key is described in this crate's README.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpamConf {
    pub daemon_socket_path: String,
    pub families: Vec<Family>,
    pub provide: Vec<Provide>,
    pub request: Vec<Ask>,
    pub priority: u32,
}

/// What addresses are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    #[serde(rename = "ipv4")]
    V4,
    #[serde(rename = "ipv6")]
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        })
    }
}

/// An option that the client sends: `value`, or what `CNI_ARGS` has under `fromArg`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Provide {
    pub option: String,
    pub value: String,
    pub from_arg: String,
}

/// An option that the client asks for; or that it asks for nothing by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ask {
    pub skip_default: bool,
    pub option: String,
}

/// A configuration that can be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub socket: PathBuf,
    /// At least one, each once, IPv4 first.
    pub families: Vec<Family>,
    pub wishes: Wishes,
    /// The metric of the routes.
    pub priority: Option<u32>,
}

/// What the client says of itself and asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// Options by number, with their bytes.
    pub provide: Vec<(u8, Vec<u8>)>,
    /// Options by number, in the order of preference.
    pub request: Vec<u8>,
}

impl Wishes {
    /// The name that it gives itself, if it is one.
    pub fn host_name(&self) -> Option<String> {
        let (_, name) = self.provide.iter().find(|(code, _)| *code == HOST_NAME)?;
        let name = str::from_utf8(name).ok()?;
        name.chars().all(|c| c.is_ascii_graphic()).then(|| name.to_owned())
    }
}

impl Config {
    /// Fails with code 7 naming field and value.
    pub fn new(request: &Request) -> Result<Self, Error> {
        let NetConf { ipam } = request.decode()?;
        let IpamConf { daemon_socket_path, mut families, provide, request: asked, priority } = ipam;
        let provide = provided(&provide, &request.raw_args)?;
        let socket =
            if daemon_socket_path.is_empty() { DEFAULT_SOCKET.into() } else { daemon_socket_path.into() };
        let wishes = Wishes { provide, request: requested(&asked)? };
        families.sort_unstable();
        families.dedup();
        if families.is_empty() {
            families.push(Family::V4);
        }
        Ok(Self { socket, families, wishes, priority: (priority != 0).then_some(priority) })
    }

    /// Where the agent listens, of a configuration that need not be right otherwise.
    pub fn socket(request: &Request) -> PathBuf {
        let conf: NetConf = request.decode().unwrap_or_default();
        let path = conf.ipam.daemon_socket_path;
        if path.is_empty() { DEFAULT_SOCKET.into() } else { path.into() }
    }
}

fn provided(provide: &[Provide], raw_args: &str) -> Result<Vec<(u8, Vec<u8>)>, Error> {
    let argument = |key: &str| {
        let pairs = raw_args.split(';').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == key && !key.is_empty()).map(|(_, value)| value).next_back()
    };
    let mut options = Vec::new();
    for (index, Provide { option, value, from_arg }) in provide.iter().enumerate() {
        let field = |key: &str| format!("ipam.provide[{index}].{key}");
        let code = option_code(&field("option"), option)?;
        let value = argument(from_arg).or_else(|| Some(value.as_str()).filter(|value| !value.is_empty()));
        let Some(value) = value else { continue };
        if value.len() > MAX_OPTION {
            return Err(Error::invalid_config(
                &field("value"),
                value,
                "is longer than the 255 bytes of an option",
            ));
        }
        options.retain(|(other, _)| *other != code);
        options.push((code, value.as_bytes().to_vec()));
    }
    Ok(options)
}

fn requested(asked: &[Ask]) -> Result<Vec<u8>, Error> {
    let mut codes = Vec::new();
    for (index, Ask { skip_default: _, option }) in asked.iter().enumerate() {
        if !option.is_empty() {
            codes.push(option_code(&format!("ipam.request[{index}].option"), option)?);
        }
    }
    if !asked.iter().any(|ask| ask.skip_default) {
        codes.extend(ASKED_BY_DEFAULT);
    }
    let mut seen = Vec::new();
    codes.retain(|code| {
        !seen.contains(code) && {
            seen.push(*code);
            true
        }
    });
    Ok(codes)
}

/// A name that the reference knows, or a number.
fn option_code(field: &str, option: &str) -> Result<u8, Error> {
    let named = match option {
        "dhcp-client-identifier" => Some(61),
        "subnet-mask" => Some(1),
        "routers" => Some(3),
        "host-name" => Some(HOST_NAME),
        "user-class" => Some(77),
        "vendor-class-identifier" => Some(60),
        _ => None,
    };
    // 0 pads, and 255 ends the options.
    named.or_else(|| option.parse().ok().filter(|code| (1..255).contains(code))).ok_or_else(|| {
        let why = "is neither an option's number nor dhcp-client-identifier, host-name, routers, subnet-mask, \
                   user-class or vendor-class-identifier";
        Error::invalid_config(field, format!("{option:?}"), why)
    })
}

/// The client identifier, as the reference's plugin makes it: a server knows the container again.
pub fn client_id(attachment: &Attachment) -> Vec<u8> {
    let Attachment { network, container, ifname } = attachment;
    let mut id = format!("{container}/{network}/{ifname}").into_bytes();
    // With the byte before it, it fills an option.
    id.truncate(MAX_OPTION - 1);
    [vec![0], id].concat()
}

/// The DHCP unique identifier of IPv6, a UUID that follows from the attachment (RFC 6355): as the client identifier, it stays
/// the same for the same container.
pub fn duid(attachment: &Attachment) -> Vec<u8> {
    let uuid = u128::from_str_radix(&attachment.hash(UUID_DIGITS), 16).expect("a hash is hexadecimal");
    [&DUID_UUID[..], &uuid.to_be_bytes()].concat()
}

const DUID_UUID: [u8; 2] = [0, 4];
const UUID_DIGITS: usize = 32;
const HOST_NAME: u8 = 12;

/// As the reference's.
pub const DEFAULT_SOCKET: &str = "/run/cni/dhcp.sock";
const MAX_OPTION: usize = 255;
/// RFC 3442 wants classless routes asked for before the routers they replace: mask, classless routes, routers, static routes,
/// name servers, domain, search list, MTU.
const ASKED_BY_DEFAULT: [u8; 8] = [1, 121, 3, 33, 6, 15, 119, 26];

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(option: &str, skip_default: bool) -> Ask {
        Ask { skip_default, option: option.into() }
    }

    #[test]
    fn options_are_asked_for_once_and_by_default() {
        assert_eq!(requested(&[]).unwrap(), ASKED_BY_DEFAULT);
        assert_eq!(
            requested(&[ask("42", false), ask("routers", false)]).unwrap(),
            [42, 3, 1, 121, 33, 6, 15, 119, 26]
        );
        assert_eq!(requested(&[ask("", true), ask("subnet-mask", false)]).unwrap(), [1]);
        let err = requested(&[ask("255", false)]).unwrap_err();
        assert!(err.msg.starts_with("ipam.request[0].option: \"255\": is neither"), "{}", err.msg);
    }

    #[test]
    fn an_argument_wins_over_the_value() {
        let provide = |option: &str, value: &str, from_arg: &str| Provide {
            option: option.into(),
            value: value.into(),
            from_arg: from_arg.into(),
        };
        let given =
            [provide("host-name", "box", "NAME"), provide("60", "v", "NONE"), provide("61", "", "NONE")];
        assert_eq!(
            provided(&given, "IgnoreUnknown=1;NAME=c1").unwrap(),
            [(12, b"c1".to_vec()), (60, b"v".to_vec())]
        );
        let long = [provide("12", &"x".repeat(256), "")];
        assert!(provided(&long, "").unwrap_err().msg.ends_with("is longer than the 255 bytes of an option"));
    }

    #[test]
    fn the_client_id_is_the_references() {
        let mut attachment = Attachment {
            network: "net".parse().unwrap(),
            container: "ctr".parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        assert_eq!(client_id(&attachment), b"\0ctr/net/eth0");
        attachment.container = "c".repeat(255).parse().unwrap();
        assert_eq!(client_id(&attachment).len(), 255);
    }

    /// The README's table has each key of `ipam`, and no other.
    #[test]
    fn the_readme_lists_every_option() {
        let rows = include_str!("../README.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let keys = cni::decode::field_names::<IpamConf>().iter().copied();
        assert_eq!(
            rows.filter(|row| !row.starts_with('-')).collect::<std::collections::BTreeSet<_>>(),
            keys.collect()
        );
    }
}

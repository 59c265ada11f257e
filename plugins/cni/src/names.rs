//! The names that identify an attachment, valid by construction, and the names derived from them.
//!
//! The rules are those of the reference library (`pkg/utils/utils.go`).

use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("is empty")]
    Empty,
    #[error("must start with a letter or a digit and hold only letters, digits, '_', '.' and '-'")]
    Characters,
    #[error("is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("must not be '.' or '..'")]
    Dots,
    #[error("must not contain '/', ':' or white space")]
    Separator,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                $check(name)?;
                Ok(Self(name.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A network's name, the configuration's `name`: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 255 bytes since it is a
    /// directory's name too.
    NetworkName, check_identifier
}
name! {
    /// `CNI_CONTAINERID`: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    ContainerId, check_identifier
}
name! {
    /// `CNI_IFNAME`, or any interface's name: 1 to 15 bytes (`dev_valid_name` in the kernel's net/core/dev.c).
    IfName, check_ifname
}

fn check_identifier(name: &str) -> Result<(), NameError> {
    let Some(first) = name.bytes().next() else { return Err(NameError::Empty) };
    let rest_is_fine = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if !first.is_ascii_alphanumeric() || !rest_is_fine {
        return Err(NameError::Characters);
    }
    if name.len() > MAX_IDENTIFIER {
        return Err(NameError::TooLong { max: MAX_IDENTIFIER });
    }
    Ok(())
}

fn check_ifname(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_IFNAME {
        return Err(NameError::TooLong { max: MAX_IFNAME });
    }
    if name == "." || name == ".." {
        return Err(NameError::Dots);
    }
    if name.chars().any(|c| c == '/' || c == ':' || c.is_whitespace()) {
        return Err(NameError::Separator);
    }
    Ok(())
}

/// The key of everything that an ADD makes: one interface of one container on one network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    pub network: NetworkName,
    pub container: ContainerId,
    pub ifname: IfName,
}

impl Attachment {
    /// The first `digits` hex digits (64 at most) of a SHA-256 over the three names, each with its length before it, so that no two
    /// attachments run into one string.
    pub fn hash(&self, digits: usize) -> String {
        hex(&self.digest(), digits)
    }

    /// The SHA-256 that [`Attachment::hash`] is of.
    pub fn digest(&self) -> [u8; 32] {
        let mut last = LAST_HASH.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((of, hash)) if of == self => *hash,
            _ => {
                let hash = self.compute_digest();
                *last = Some((self.clone(), hash));
                hash
            }
        }
    }

    fn compute_digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [self.network.as_str(), self.container.as_str(), self.ifname.as_str()] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into()
    }

    /// The name of the host's end of the attachment's veth pair: found again without any state.
    pub fn host_veth(&self) -> String {
        format!("veth{}", self.hash(HOST_VETH_DIGITS))
    }

    /// The `ifalias` of what the suite makes for this attachment: `tenon:<network>:<container>:<ifname>`, or
    /// `tenon:<hash>` where that would not fit (IFALIASZ is 256 with the terminating zero).
    pub fn alias(&self) -> String {
        let Self { network, container, ifname } = self;
        let alias = format!("tenon:{network}:{container}:{ifname}");
        if alias.len() <= MAX_IFALIAS { alias } else { format!("tenon:{}", self.hash(64)) }
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.container, self.ifname)
    }
}

/// A plugin serves one attachment, and names two dozen things after its hash. Not one a thread: whoever has a destructor to
/// run at a thread's end makes musl set up a heap of its own.
static LAST_HASH: Mutex<Option<(Attachment, [u8; 32])>> = Mutex::new(None);

/// The first `digits` hex digits of `bytes`.
pub fn hex(bytes: &[u8], digits: usize) -> String {
    let mut text = String::with_capacity(digits);
    for at in 0..digits.min(bytes.len() * 2) {
        let half = if at % 2 == 0 { bytes[at / 2] >> 4 } else { bytes[at / 2] & 15 };
        text.push(char::from(b"0123456789abcdef"[usize::from(half)]));
    }
    text
}

/// `CNI_NETNS` to the letter: results carry it as `sandbox` unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetnsPath(String);

impl NetnsPath {
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<std::path::Path> for NetnsPath {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
}

impl fmt::Display for NetnsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// NAME_MAX: the names become names of files.
const MAX_IDENTIFIER: usize = 255;
/// IFNAMSIZ less the terminating zero.
const MAX_IFNAME: usize = 15;
/// IFALIASZ less the terminating zero.
const MAX_IFALIAS: usize = 255;
/// `veth` and these fill IFNAMSIZ; 44 bits leave a collision among 10,000 attachments at 3 in a million.
const HOST_VETH_DIGITS: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_and_interface_names() {
        fn check<T: FromStr<Err = NameError>>(name: &str, expected: Result<(), NameError>) {
            assert_eq!(name.parse::<T>().map(|_| ()), expected, "{name:?}");
        }
        for good in ["a", "9", "mynet", "a.b-c_d", &"x".repeat(255)] {
            check::<NetworkName>(good, Ok(()));
            check::<ContainerId>(good, Ok(()));
        }
        check::<NetworkName>("", Err(NameError::Empty));
        for bad in [".", "..", "-a", "_a", "a b", "a/b", "å", "a\n", "a\0"] {
            check::<NetworkName>(bad, Err(NameError::Characters));
        }
        check::<ContainerId>(&"x".repeat(256), Err(NameError::TooLong { max: 255 }));
        for good in ["eth0", "a", "fifteen-bytes-x", "eth0.100", "-"] {
            check::<IfName>(good, Ok(()));
        }
        check::<IfName>("", Err(NameError::Empty));
        check::<IfName>("sixteen-bytes-xx", Err(NameError::TooLong { max: 15 }));
        check::<IfName>(".", Err(NameError::Dots));
        check::<IfName>("..", Err(NameError::Dots));
        for bad in ["a/b", "a:b", "a b", "a\tb", "a\u{a0}b"] {
            check::<IfName>(bad, Err(NameError::Separator));
        }
    }

    fn attachment(network: &str, container: &str, ifname: &str) -> Attachment {
        Attachment {
            network: network.parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: ifname.parse().unwrap(),
        }
    }

    #[test]
    fn attachments_do_not_run_into_each_other() {
        // The reference hashes name + id without a separator: these two share a chain there.
        assert_ne!(attachment("net", "1a", "eth0").hash(64), attachment("net1", "a", "eth0").hash(64));
        assert_ne!(attachment("net", "a", "eth0").hash(64), attachment("net", "a", "eth1").hash(64));
        assert_eq!(attachment("net", "a", "eth0").host_veth().len(), 15);
        // Pinned: a node's upgrade must find the links of the version before.
        assert_eq!(attachment("net", "a", "eth0").host_veth(), "vethd5cea81a89d");
    }

    #[test]
    fn aliases_fit_the_kernel() {
        assert_eq!(attachment("net", "a", "eth0").alias(), "tenon:net:a:eth0");
        let long = attachment(&"n".repeat(200), &"c".repeat(200), "eth0").alias();
        assert_eq!(long.len(), "tenon:".len() + 64);
    }
}

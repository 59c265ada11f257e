//! Ethernet addresses. Knows no link.

use std::{fmt, net::Ipv6Addr, str::FromStr};

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// A text that is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an Ethernet address (like 02:00:5e:10:00:01)")]
pub struct ParseMacError(String);

impl MacAddr {
    /// To all stations.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Group bit: no interface can have such an address.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Locally administered, not given by a vendor.
    pub fn is_local(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// The modified EUI-64 interface identifier (RFC 4291, appendix A).
    pub fn to_eui64(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }

    /// The `fe80::/64` address that this interface identifier gives (RFC 4291, section 2.5.6).
    pub fn link_local(self) -> Ipv6Addr {
        let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        octets[8..].copy_from_slice(&self.to_eui64());
        octets.into()
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Takes what Go's `net.ParseMAC` takes of 48 bits: `02:00:5e:10:00:01`, `02-00-5e-10-00-01`, `0200.5e10.0001`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseMacError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<MacAddr> {
    let (separator, width, count) = match text.as_bytes().get(2)? {
        b':' => (':', 2, 6),
        b'-' => ('-', 2, 6),
        _ => ('.', 4, 3),
    };
    let groups: Vec<&str> = text.split(separator).collect();
    let hex = |group: &&str| group.len() == width && group.bytes().all(|b| b.is_ascii_hexdigit());
    if groups.len() != count || !groups.iter().all(hex) {
        return None;
    }
    let [.., a, b, c, d, e, f] = u64::from_str_radix(&groups.concat(), 16).ok()?.to_be_bytes();
    Some(MacAddr([a, b, c, d, e, f]))
}

impl TryFrom<&[u8]> for MacAddr {
    type Error = ParseMacError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self).map_err(|_| ParseMacError(format!("{bytes:02x?}")))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b':'; 17];
        for (digits, byte) in text.chunks_mut(3).zip(self.0) {
            for (digit, half) in digits.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = b"0123456789abcdef"[usize::from(half)];
            }
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::MacAddr;

    #[test]
    fn parses_what_go_parses() {
        for text in ["02:00:5e:10:00:ab", "02-00-5E-10-00-AB", "0200.5e10.00ab"] {
            assert_eq!(text.parse::<MacAddr>().unwrap().to_string(), "02:00:5e:10:00:ab", "{text}");
        }
        for text in
            ["", "02", "02:00:5e:10:00", "02:00:5e:10:00:0", "02:00:5e:10:00:0g", "02:00:5e:10:00:01:02"]
        {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
        for text in ["+2:00:5e:10:00:01", "02:00-5e:10:00:01", "0200.5e10", "éé:00:00:00:00:00"] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn makes_link_local() {
        let mac: MacAddr = "02:42:0a:01:00:02".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::42:aff:fe01:2");
        assert!(mac.is_local() && !mac.is_multicast());
        assert!(MacAddr::BROADCAST.is_multicast());
    }
}

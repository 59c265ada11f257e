//! Which hardware address and MTU an attachment gets.

use cni::{error::Error, names::Attachment};
use kernel::mac::MacAddr;

/// Where a hardware address can be asked for, in the order in which the reference lets one win over the next.
#[derive(Debug, Clone, Default)]
pub struct MacSources<'a> {
    /// `runtimeConfig.mac`, the capability.
    pub runtime: Option<&'a str>,
    /// `args.cni.mac`.
    pub args: Option<&'a str>,
    /// `CNI_ARGS` `MAC`.
    pub environment: Option<&'a str>,
    /// `mac` of the configuration, in the plugins that have one.
    pub configured: Option<&'a str>,
}

impl MacSources<'_> {
    /// The address asked for. Fails (code 7) naming the field when it is none, or no station's.
    pub fn requested(&self) -> Result<Option<MacAddr>, Error> {
        let sources = [
            ("runtimeConfig.mac", self.runtime),
            ("args.cni.mac", self.args),
            ("CNI_ARGS MAC", self.environment),
            ("mac", self.configured),
        ];
        let Some((field, text)) =
            sources.iter().find_map(|(field, text)| Some((field, text.filter(|t| !t.is_empty())?)))
        else {
            return Ok(None);
        };
        let mac: MacAddr = text.parse().map_err(|why| Error::invalid_config(field, text, why))?;
        if mac.is_multicast() || mac.0 == [0; 6] {
            return Err(Error::invalid_config(field, text, "is not the address of one interface"));
        }
        Ok(Some(mac))
    }
}

/// The address of an attachment for which none was asked: locally administered, and the same for the same attachment, so
/// that it is known before the interface exists.
pub fn derived_mac(attachment: &Attachment, end: End) -> MacAddr {
    let hash = attachment.digest();
    let own = match end {
        End::Container => &hash[10..15],
        End::Host => &hash[15..20],
    };
    let mut mac = [0x02; 6];
    mac[1..].copy_from_slice(own);
    MacAddr(mac)
}

/// The ends of a veth pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Container,
    Host,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_source_wins_and_is_named_in_errors() {
        fn check(sources: MacSources<'_>, expected: Result<Option<&str>, &str>) {
            let requested = sources.requested().map(|mac| mac.map(|mac| mac.to_string())).map_err(|e| e.msg);
            assert_eq!(requested, expected.map(|m| m.map(str::to_owned)).map_err(str::to_owned));
        }
        let all = MacSources {
            runtime: Some("02:00:00:00:00:01"),
            args: Some("02:00:00:00:00:02"),
            environment: Some("02:00:00:00:00:03"),
            configured: Some("02:00:00:00:00:04"),
        };
        check(MacSources::default(), Ok(None));
        check(all.clone(), Ok(Some("02:00:00:00:00:01")));
        check(MacSources { runtime: Some(""), ..all.clone() }, Ok(Some("02:00:00:00:00:02")));
        check(MacSources { runtime: None, args: None, ..all.clone() }, Ok(Some("02:00:00:00:00:03")));
        let bad = MacSources { args: Some("01:00:00:00:00:02"), runtime: None, ..all };
        check(bad, Err("args.cni.mac: 01:00:00:00:00:02: is not the address of one interface"));
    }

    #[test]
    fn derived_addresses_are_local_stable_and_differ() {
        let attachment = |container: &str| Attachment {
            network: "n".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        let mac = derived_mac(&attachment("a"), End::Container);
        assert_eq!(mac, derived_mac(&attachment("a"), End::Container));
        assert!(mac.is_local() && !mac.is_multicast());
        assert_ne!(mac, derived_mac(&attachment("a"), End::Host));
        assert_ne!(mac, derived_mac(&attachment("b"), End::Container));
    }
}

//! What is left of the underlay's MTU inside a tunnel. Knows no device.

use crate::{
    family::Family,
    names::{Mtu, RangeError},
};

/// Bytes that VXLAN adds to an inner IP packet: outer IP (20, 40), UDP (8), VXLAN (8) and the inner Ethernet header (14);
/// RFC 7348, section 5.
pub fn vxlan_overhead(underlay: Family) -> u32 {
    let ip = match underlay {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    ip + 8 + 8 + 14
}

/// The MTU of an overlay device over a link of MTU `link`: what fits, or less where the network asks for less. An error
/// if what fits is no MTU.
pub fn of_device(link: Mtu, underlay: Family, wanted: Option<Mtu>) -> Result<Mtu, RangeError> {
    let fits = Mtu::try_from(u32::from(link).saturating_sub(vxlan_overhead(underlay)))?;
    Ok(wanted.map_or(fits, |wanted| wanted.min(fits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_exact() {
        let mtu = |value: u32| Mtu::try_from(value).unwrap();
        #[track_caller]
        fn check(link: u32, underlay: Family, wanted: Option<u32>, expected: u32) {
            let mtu = |value: u32| Mtu::try_from(value).unwrap();
            assert_eq!(
                of_device(mtu(link), underlay, wanted.map(mtu)),
                Ok(mtu(expected)),
                "{link} {underlay}"
            );
        }
        for (link, v4, v6) in [(1400, 1350, 1330), (1500, 1450, 1430), (9000, 8950, 8930)] {
            check(link, Family::V4, None, v4);
            check(link, Family::V6, None, v6);
        }
        check(1500, Family::V4, Some(1400), 1400);
        check(1500, Family::V4, Some(1480), 1450);
        assert!(of_device(mtu(100), Family::V4, None).is_err());
    }
}

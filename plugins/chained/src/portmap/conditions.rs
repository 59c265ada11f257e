//! `conditionsV4` and `conditionsV6`, in the words of nft or in the arguments of iptables that say the same: addresses and
//! interfaces, each negated or not. Anything else is an error: a condition that is not understood must not be left out.

use std::net::IpAddr;

use attach::ruleset::condition::{Condition, Interface, What};
use cni::error::Error;
use ipnetwork::IpNetwork;

/// Which of the two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn key(self) -> &'static str {
        match self {
            Self::V4 => "conditionsV4",
            Self::V6 => "conditionsV6",
        }
    }
}

/// Reads the words; as in the reference those that begin with a `-` or a `!` are iptables's. Sorted, so that the order in
/// which a configuration says the same does not matter.
pub(super) fn parse(family: Family, words: &[String]) -> Result<Vec<Condition>, Error> {
    // A string may hold several words.
    let mut words = words.iter().flat_map(|text| text.split_whitespace()).peekable();
    let of_iptables = words.peek().is_some_and(|word| word.starts_with(['-', '!']));
    let mut conditions = Vec::new();
    while let Some(word) = words.next() {
        let mut next = || words.next();
        conditions.push(if of_iptables {
            iptables(family, word, &mut next)?
        } else {
            nft(family, word, &mut next)?
        });
    }
    conditions.sort();
    conditions.dedup();
    Ok(conditions)
}

fn iptables<'a>(
    family: Family,
    word: &'a str,
    next: &mut impl FnMut() -> Option<&'a str>,
) -> Result<Condition, Error> {
    let mut negated = word == "!";
    let missing = || unknown(family, word, "something is missing behind it");
    let option = if negated { next().ok_or_else(missing)? } else { word };
    let mut value = next().ok_or_else(missing)?;
    // The negation used to stand here, before iptables 1.4.
    if value == "!" {
        negated = !negated;
        value = next().ok_or_else(missing)?;
    }
    let what = match option {
        "-s" | "--source" | "--src" => What::Source(network(family, value)?),
        "-d" | "--destination" | "--dst" => What::Destination(network(family, value)?),
        "-i" | "--in-interface" => What::From(interface(family, value, '+')?),
        "-o" | "--out-interface" => What::To(interface(family, value, '+')?),
        _ => {
            let why = "is none of -s, -d, -i, -o, which are understood (each after a ! or not)";
            return Err(unknown(family, option, why));
        }
    };
    Ok(Condition { what, negated })
}

fn nft<'a>(
    family: Family,
    word: &'a str,
    next: &mut impl FnMut() -> Option<&'a str>,
) -> Result<Condition, Error> {
    let missing = || unknown(family, word, "something is missing behind it");
    let field = match (word, family) {
        ("ip", Family::V4) | ("ip6", Family::V6) => next().ok_or_else(missing)?,
        ("meta", _) => next().ok_or_else(missing)?,
        ("ip" | "ip6", _) => return Err(unknown(family, word, "is of the other IP version")),
        _ => word,
    };
    let mut value = next().ok_or_else(missing)?;
    let negated = value == "!=";
    if negated || value == "==" {
        value = next().ok_or_else(missing)?;
    }
    let value = value.trim_matches('"');
    let what = match field {
        "saddr" if word != field => What::Source(network(family, value)?),
        "daddr" if word != field => What::Destination(network(family, value)?),
        "iif" | "iifname" => What::From(interface(family, value, '*')?),
        "oif" | "oifname" => What::To(interface(family, value, '*')?),
        _ => {
            let why = "is none of ip(6) saddr, ip(6) daddr, iifname, oifname, which are understood (before a != or not)";
            return Err(unknown(family, field, why));
        }
    };
    Ok(Condition { what, negated })
}

fn network(family: Family, text: &str) -> Result<IpNetwork, Error> {
    let bad = || unknown(family, text, "is not an address or network of its IP version");
    let network = match text.split_once('/') {
        None => IpNetwork::from(text.parse::<IpAddr>().map_err(|_| bad())?),
        // IpNetwork reads masks too, as iptables does.
        Some(_) => text.parse().map_err(|_| bad())?,
    };
    if network.is_ipv4() == (family == Family::V4) { Ok(network) } else { Err(bad()) }
}

fn interface(family: Family, text: &str, wildcard: char) -> Result<Interface, Error> {
    let plain = text.strip_suffix(wildcard);
    let name = plain.unwrap_or(text);
    let is_name = |c: char| c.is_ascii_graphic() && !"/{}@$,".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_name) {
        return Err(unknown(family, text, "is not an interface's name"));
    }
    Ok(match plain {
        Some(beginning) => Interface::Beginning(beginning.to_owned()),
        None => Interface::Named(name.to_owned()),
    })
}

fn unknown(family: Family, word: &str, why: &str) -> Error {
    Error::invalid_config(family.key(), format!("{word:?}"), why)
}

/// IFNAMSIZ without its NUL.
const LONGEST_NAME: usize = 15;

#[cfg(test)]
mod tests {
    use super::{Family, parse};

    #[track_caller]
    fn check(family: Family, words: &[&str], expected: Result<&str, &str>) {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        let parsed = parse(family, &words);
        let shown = parsed.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        assert_eq!(shown.as_deref().map_err(|err| err.msg.as_str()), expected);
    }

    #[test]
    fn both_languages_say_the_same() {
        let v4 = [
            (vec!["-s", "10.0.0.0/8"], vec!["ip", "saddr", "10.0.0.0/8"], "saddr 10.0.0.0/8"),
            (vec!["!", "-d", "192.0.2.1"], vec!["ip", "daddr", "!=", "192.0.2.1"], "daddr != 192.0.2.1/32"),
            (vec!["-s", "!", "10.0.0.0/255.0.0.0"], vec!["ip saddr != 10.0.0.0/8"], "saddr != 10.0.0.0/8"),
            (vec!["-i", "eth+"], vec!["iifname", "\"eth*\""], "iifname eth*"),
            (vec!["!", "--in-interface", "lo"], vec!["meta", "iif", "!=", "lo"], "iifname != lo"),
            (vec!["-o", "br0"], vec!["oifname", "==", "br0"], "oifname br0"),
            (
                vec!["-i", "eth0", "!", "-s", "10.0.0.1"],
                vec!["ip", "saddr", "!=", "10.0.0.1", "iifname", "eth0"],
                "saddr != 10.0.0.1/32, iifname eth0",
            ),
        ];
        for (iptables, nft, expected) in v4 {
            check(Family::V4, &iptables, Ok(expected));
            check(Family::V4, &nft, Ok(expected));
        }
        check(Family::V6, &["!", "--src", "fd00::/8"], Ok("saddr != fd00::/8"));
        check(Family::V6, &["ip6", "saddr", "!=", "fd00::/8"], Ok("saddr != fd00::/8"));
        check(Family::V4, &[], Ok(""));
    }

    #[test]
    fn the_rest_is_refused_by_name() {
        for (words, expected) in [
            (
                vec!["-m", "comment"],
                "conditionsV4: \"-m\": is none of -s, -d, -i, -o, which are understood (each after a ! or not)",
            ),
            (vec!["-s"], "conditionsV4: \"-s\": something is missing behind it"),
            (vec!["!", "-s"], "conditionsV4: \"!\": something is missing behind it"),
            (
                vec!["-s", "fd00::1"],
                "conditionsV4: \"fd00::1\": is not an address or network of its IP version",
            ),
            (
                vec!["-s", "10.0.0.1,10.0.0.2"],
                "conditionsV4: \"10.0.0.1,10.0.0.2\": is not an address or network of its IP version",
            ),
            (vec!["-i", "a/b"], "conditionsV4: \"a/b\": is not an interface's name"),
            (vec!["ip6", "saddr", "fd00::1"], "conditionsV4: \"ip6\": is of the other IP version"),
            (
                vec!["saddr", "10.0.0.1"],
                "conditionsV4: \"saddr\": is none of ip(6) saddr, ip(6) daddr, iifname, oifname, which are understood (before a != or not)",
            ),
            (
                vec!["tcp", "dport", "80"],
                "conditionsV4: \"tcp\": is none of ip(6) saddr, ip(6) daddr, iifname, oifname, which are understood (before a != or not)",
            ),
            (vec!["iifname", "{", "a", "}"], "conditionsV4: \"{\": is not an interface's name"),
        ] {
            check(Family::V4, &words, Err(expected));
        }
    }
}

//! The kernel's counters of what goes wrong with packets, for where nothing else tells: which of them grew during a run.
//! Other traffic counts too, so they are a hint and no proof.

use std::{collections::BTreeMap, fs};

use crate::agent::place::Place;

/// Counter names with their values, of one namespace.
pub type Counters = BTreeMap<String, u64>;

/// Those that grow when a packet goes nowhere (net/ipv4/proc.c).
const TELLING: [&str; 24] = [
    "Ip.InHdrErrors",
    "Ip.InAddrErrors",
    "Ip.InDiscards",
    "Ip.OutDiscards",
    "Ip.OutNoRoutes",
    "Ip.ReasmFails",
    "Ip.FragFails",
    "IpExt.InNoRoutes",
    "IpExt.InTruncatedPkts",
    "IpExt.InCsumErrors",
    "Icmp.InCsumErrors",
    "Icmp.OutDestUnreachs",
    "Icmp.OutTimeExcds",
    "Tcp.InErrs",
    "Tcp.InCsumErrors",
    "Tcp.OutRsts",
    "TcpExt.IPReversePathFilter",
    "TcpExt.ListenDrops",
    "TcpExt.ListenOverflows",
    "Udp.NoPorts",
    "Udp.InErrors",
    "Udp.RcvbufErrors",
    "Udp.SndbufErrors",
    "Udp.InCsumErrors",
];

/// Reads those of a namespace; none where they cannot be read.
pub fn read(place: &Place) -> Counters {
    // /proc/net is the process's, not the thread's.
    const FILES: [&str; 2] = ["/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"];
    let read = || FILES.map(|file| fs::read_to_string(file).unwrap_or_default()).concat();
    place.run(read).map(|text| parse(&text)).unwrap_or_default()
}

/// Pairs of lines: `Ip: name name`, `Ip: 1 2`.
fn parse(text: &str) -> Counters {
    let mut counters = Counters::new();
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        let (Some((group, names)), Some((_, values))) = (pair[0].split_once(':'), pair[1].split_once(':'))
        else {
            continue;
        };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            let name = format!("{group}.{name}");
            if let Ok(value) = value.parse()
                && TELLING.contains(&&*name)
            {
                counters.insert(name, value);
            }
        }
    }
    counters
}

/// Those that grew, and by how much.
pub fn grown(before: &Counters, after: &Counters) -> Counters {
    let growth = |(name, value): (&String, &u64)| {
        let more = value.saturating_sub(before.get(name).copied().unwrap_or(0));
        (more > 0).then(|| (name.clone(), more))
    };
    after.iter().filter_map(growth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_telling_counters_that_grew() {
        let before = parse(
            "Ip: Forwarding InAddrErrors OutNoRoutes\nIp: 1 5 7\nTcpExt: IPReversePathFilter\nTcpExt: 0\n",
        );
        let after = parse(
            "Ip: Forwarding InAddrErrors OutNoRoutes\nIp: 2 5 9\nTcpExt: IPReversePathFilter\nTcpExt: 3\n",
        );
        let expected = [("Ip.OutNoRoutes".to_owned(), 2), ("TcpExt.IPReversePathFilter".to_owned(), 3)];
        assert_eq!(grown(&before, &after), BTreeMap::from(expected));
        assert!(parse("Ip: cut").is_empty());
    }
}

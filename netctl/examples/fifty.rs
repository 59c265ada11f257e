//! Draws a picture of many hosts that need not be there: `fifty HOSTS CONTAINERS > page.html`, to look at the layout.

#![expect(clippy::print_stdout, reason = "the picture is the output")]

use std::env;

use netctl::graph::{
    model::{Device, Group, Host, Picture, Vxlan},
    page::page,
};
use serde_json::json;

fn main() {
    let number = |nth| env::args().nth(nth).and_then(|text| text.parse::<u32>().ok());
    let (hosts, containers) = (number(1).unwrap_or(50), number(2).unwrap_or(6));
    let findings = vec![
        json!({"code": "rp-filter", "severity": "error", "where": {"node": "n2", "netns": "host", "device": "ovl7"},
            "message": "n2 drops what c1 sends", "cause": "", "fix": "sysctl -w net.ipv4.conf.ovl7.rp_filter=2"}),
        json!({"code": "dup-ip", "severity": "error", "where": {"node": "n3", "netns": "web-3", "device": "eth0"},
            "message": "10.244.3.5 is there twice, on cni0", "cause": "", "fix": null}),
    ];
    let hosts = (1..=hosts).map(|nth| host(nth, containers)).collect();
    println!("{}", page(&Picture { hosts, findings, hops: Vec::new() }));
}

fn host(nth: u32, containers: u32) -> Host {
    let device = |name: &str, address: String, vxlan: Option<Vxlan>| {
        let (kind, mac) = ("device".to_owned(), Some("02:42:00:00:00:01".to_owned()));
        Device { name: name.to_owned(), kind, addresses: vec![address], mac, mtu: 1450, up: true, vxlan }
    };
    let member = |number: u32| {
        serde_json::from_value(json!({"node": format!("n{nth}"), "container": format!("web-{number}"), "id": "x",
            "network": "lab", "ifname": "eth0", "ips": [format!("10.244.{nth}.{}/24", number + 1)], "mac": "0a:58:00:00:00:01",
            "mtu": 1450, "hostInterface": format!("veth{number:08x}"), "bridge": "cni0", "ports": [],
            "netns": format!("/run/netns/web-{number}"), "plugin": "overlay", "state": if number == 4 { "down" } else { "ok" }}))
        .expect("a row of ps")
    };
    Host {
        name: format!("n{nth}"),
        devices: vec![
            device("eth0", format!("192.0.2.{nth}/24"), None),
            device("ovl7", format!("10.244.{nth}.0/32"), Some(Vxlan { vni: 7, port: 4789 })),
        ],
        groups: vec![Group {
            device: Some(device("cni0", format!("10.244.{nth}.1/24"), None)),
            members: (1..=containers).map(member).collect(),
        }],
    }
}

//! A bridge that is the gateway of its containers, with and without masquerade; and the same to the kernel, with nothing
//! left to look up.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::Context;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage::{DelLink, GetLink, NewAddress, NewLink, NewRoute};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoData, InfoVeth, LinkAttribute,
    LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use serde_json::{Value, json};

use super::{Floor, Network, Scripts, Subject, floor, full, nothing, peer, questions};
use crate::front::bench::script::{self, Place};
use crate::front::bench::{MANY, MANY_LEASES, file, write};

pub(super) const PLAIN: Subject = Subject {
    title: "bridge",
    programs: PROGRAMS,
    prepare: nothing,
    needs: None,
    beside: true,
    chain: |network, _| Ok(vec![conf(network, false)]),
    floor: Some(Floor { prepare: prepare_bridge, scripts: |network, slot| scripts(network, slot, false) }),
    cases: &[(0, &[1, MANY]), (MANY_LEASES, &[1, MANY])],
    budgets: &[
        floor("ADD", 1.5),
        floor("DEL", 1.5),
        // A plain DEL is the kernel's time for everyone: Go's is no measure of it.
        peer("ADD", 1, 3.0),
        full("ADD", MANY_LEASES, 1.2),
        full("DEL", MANY_LEASES, 1.2),
    ],
};

pub(super) const MASQUERADE: Subject = Subject {
    title: "bridge + ipMasq",
    programs: PROGRAMS,
    prepare: nothing,
    needs: None,
    beside: false,
    chain: |network, _| Ok(vec![conf(network, true)]),
    floor: Some(Floor { prepare: prepare_masquerade, scripts: |network, slot| scripts(network, slot, true) }),
    cases: &[(0, &[1, MANY]), (MANY_LEASES, &[1, MANY])],
    budgets: &[peer("ADD", 1, 8.0), peer("DEL", 1, 3.0), peer("ADD", MANY, 5.0), peer("DEL", MANY, 5.0)],
};

const PROGRAMS: &[(&str, &str)] = &[("bridge", "bridge"), ("ipam", "host-local")];

pub(super) fn conf(network: &Network<'_>, masquerade: bool) -> Value {
    json!({
        "type": "bridge", "bridge": network.name, "isGateway": true, "ipMasq": masquerade,
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": format!("10.{}.0.0/16", network.number) }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
        },
    })
}

/// The nft set of the floor that holds what is masqueraded.
const FLOOR_TABLE: &str = "floor";
const FLOOR_SET: &str = "masqueraded";
/// The container's link has this index: known beforehand, so that it need not be asked for.
const PEER_INDEX: u32 = 20;
const EXCLUSIVE: u16 = NLM_F_CREATE | NLM_F_EXCL;

fn prepare_bridge(network: &Network<'_>) -> anyhow::Result<()> {
    let host = network.lab.host();
    host.add_bridge(&network.name);
    host.add_address(&network.name, &format!("10.{}.0.1/16", network.number));
    host.set_up(&network.name);
    Ok(())
}

fn prepare_masquerade(network: &Network<'_>) -> anyhow::Result<()> {
    prepare_bridge(network)?;
    let ruleset = format!(
        "add table inet {FLOOR_TABLE}
         add set inet {FLOOR_TABLE} {FLOOR_SET} {{ type ipv4_addr; }}
         add chain inet {FLOOR_TABLE} out {{ type nat hook postrouting priority srcnat; }}
         flush chain inet {FLOOR_TABLE} out
         add rule inet {FLOOR_TABLE} out ip saddr @{FLOOR_SET} ip daddr != 10.0.0.0/8 masquerade\n"
    );
    let path = file(network.lab, "floor.nft");
    write(&path, ruleset)?;
    network.lab.host().exec(&["nft", "-f", &path.display().to_string()]).ok();
    Ok(())
}

/// What one attachment of the floor is made of.
struct Attachment {
    name: String,
    bridge_name: String,
    bridge: u32,
    index: u32,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
    masquerade: bool,
}

fn scripts(network: &Network<'_>, slot: usize, masquerade: bool) -> anyhow::Result<Scripts> {
    let Network { number, name, .. } = network;
    let index = format!("/sys/class/net/{name}/ifindex");
    let bridge = fs::read_to_string(&index).with_context(|| format!("read {index}"))?.trim().parse()?;
    let low = u8::try_from(slot + 2)?;
    let attachment = Attachment {
        name: format!("fl{number}x{slot}"),
        bridge_name: name.clone(),
        bridge,
        index: 1_000_000 + 1_000 * u32::from(*number) + u32::from(low),
        address: [10, *number, 0, low].into(),
        gateway: [10, *number, 0, 1].into(),
        masquerade,
    };
    let address = attachment.address.to_string();
    Ok(Scripts { add: add(&attachment), del: del(&attachment), address })
}

/// The kernel is asked what the plugin asks it, and told all that an attachment is, in the plugin's order, and nothing twice: a pair with known MAC addresses,
/// each end born in its namespace and one in the bridge; the port without an address of its own, named after its owner,
/// up; the container's end up, with address and route; and, once the port has been seen to pass packets, the
/// announcement of the address, which the kernel makes when a MAC address is set.
fn add(of: &Attachment) -> Vec<u8> {
    let mac =
        |end: u8| LinkAttribute::Address(vec![2, of.gateway.octets()[1], of.address.octets()[3], 0, 0, end]);
    let mut end = LinkMessageBuilder::<LinkUnspec>::new().name("eth0".to_string()).build();
    end.header.index = PEER_INDEX;
    end.attributes.extend([mac(1), LinkAttribute::NetNsFd(script::NETNS_FD)]);
    let mut pair = LinkVeth::new(&of.name, "eth0")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(end)))
        .controller(of.bridge)
        .append_extra_attribute(mac(0))
        .build();
    pair.header.index = of.index;
    let port = || LinkUnspec::new_with_index(of.index);
    let inner = || LinkUnspec::new_with_index(PEER_INDEX);
    let no_address = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let mut announced = InetDevConf::default();
    announced.arp_notify = 1;
    let announced = AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(announced)]);
    let alias = LinkAttribute::IfAlias(format!("floor:{}", of.name));
    let family = |spec| LinkAttribute::AfSpecUnspec(vec![spec]);
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(of.gateway).build();
    let parts = [
        questions::link_named(Place::Container, "eth0"),
        questions::ways_out(),
        questions::link_named(Place::Host, &of.bridge_name),
        questions::addresses_of(of.bridge),
        script::part(Place::Host, &[(NewLink(pair), EXCLUSIVE), (GetLink(questions::by_index(of.index)), 0)]),
        script::part(
            Place::Host,
            &[
                (NewLink(port().append_extra_attribute(family(no_address)).build()), 0),
                (NewLink(port().append_extra_attribute(alias).up().build()), 0),
                // Its MAC address may be another since it has this port.
                (GetLink(questions::by_index(of.bridge)), 0),
            ],
        ),
        script::part(
            Place::Container,
            &[
                (NewLink(inner().append_extra_attribute(family(announced)).up().build()), 0),
                (NewAddress(address(of)), EXCLUSIVE),
                (NewRoute(route), EXCLUSIVE),
            ],
        ),
        // The question brings the carrier up to date (linkwatch_sync_dev): before, the bridge drops what comes in.
        questions::link(Place::Host, of.index),
        script::part(Place::Container, &[(NewLink(inner().append_extra_attribute(mac(1)).build()), 0)]),
    ];
    let mut script = parts.concat();
    if of.masquerade {
        script.extend(script::add_element(FLOOR_TABLE, FLOOR_SET, of.address));
    }
    script
}

fn del(of: &Attachment) -> Vec<u8> {
    let mut link = LinkMessage::default();
    link.header.index = of.index;
    let mut script = Vec::new();
    if of.masquerade {
        script.extend(script::delete_element(FLOOR_TABLE, FLOOR_SET, of.address));
    }
    script.extend(script::part(Place::Host, &[(DelLink(link), 0)]));
    script
}

fn address(of: &Attachment) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = PEER_INDEX;
    message.header.prefix_len = 16;
    message.header.family = netlink_packet_route::AddressFamily::Inet;
    let ip = of.address.into();
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

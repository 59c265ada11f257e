//! A capture file that grows with what nodes report: an interface for each device that shows up.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::pcapng::{self, Interface, LinkType, Writer};
use crate::{
    agent::protocol::Captured,
    packet::{Ip, Layer, Packet, Transport, Tunnel},
};

/// An open file.
pub struct CaptureFile<W> {
    writer: Writer<W>,
    interfaces: BTreeMap<(String, LinkType), Interface>,
    snaplen: u32,
    /// Ports other than the standard one on which VXLAN was seen.
    pub vxlan_ports: Vec<u16>,
    pub packets: u64,
}

/// On which programs expect VXLAN.
const VXLAN_PORT: u16 = 4789;

impl<W: Write> CaptureFile<W> {
    /// `names` are those of addresses, for whoever reads the file.
    pub fn new(out: W, snaplen: u32, names: &[(std::net::IpAddr, String)]) -> io::Result<Self> {
        let mut writer = Writer::new(out)?;
        writer.names(names)?;
        let (interfaces, vxlan_ports) = (BTreeMap::new(), Vec::new());
        Ok(Self { writer, interfaces, snaplen, vxlan_ports, packets: 0 })
    }

    /// Adds a packet of a node. What a tunnel carries is its comment, since readers know only some ports.
    pub fn add(&mut self, node: &str, captured: &Captured) -> io::Result<()> {
        let Captured { time_ns, netns, device, outgoing, ethernet, len, bytes } = captured;
        let link = if *ethernet { LinkType::Ethernet } else { LinkType::Raw };
        let interface = self.interface(&format!("{node}/{netns}/{device}"), link)?;
        let decoded = decode(captured);
        let comment = if decoded.is_wrapped() { decoded.to_string() } else { String::new() };
        if let Some(port) = vxlan_port(&decoded)
            && port != VXLAN_PORT
            && !self.vxlan_ports.contains(&port)
        {
            self.vxlan_ports.push(port);
        }
        self.packets += 1;
        let (time_ns, len, outgoing) = (*time_ns, *len, Some(*outgoing));
        self.writer.packet(&pcapng::Packet { interface, time_ns, len, bytes, outgoing, comment: &comment })
    }

    /// Adds a packet with a comment of the caller's, on an interface by its full name.
    pub fn add_commented(&mut self, name: &str, packet: Hop<'_>) -> io::Result<()> {
        let interface = self.interface(name, LinkType::Raw)?;
        let Hop { time_ns, len, bytes, outgoing, comment } = packet;
        self.packets += 1;
        self.writer.packet(&pcapng::Packet { interface, time_ns, len, bytes, outgoing, comment })
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    fn interface(&mut self, name: &str, link: LinkType) -> io::Result<Interface> {
        let key = (name.to_owned(), link);
        if let Some(interface) = self.interfaces.get(&key) {
            return Ok(*interface);
        }
        let interface = self.writer.interface(name, "", link, self.snaplen)?;
        self.interfaces.insert(key, interface);
        Ok(interface)
    }
}

/// A packet from its network header on.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    pub len: u32,
    pub bytes: &'a [u8],
    pub outgoing: Option<bool>,
    pub comment: &'a str,
}

/// The layers of a captured packet.
pub fn decode(captured: &Captured) -> Packet {
    match captured.ethernet {
        true => Packet::ethernet(&captured.bytes),
        false => Packet::network(0, &captured.bytes),
    }
}

fn vxlan_port(packet: &Packet) -> Option<u16> {
    packet.layers.iter().find_map(|layer| match layer {
        Layer::Ip(Ip {
            tunnel: Some(Tunnel::Vxlan(_)),
            transport: Transport::Udp { destination, .. },
            ..
        }) => Some(*destination),
        _ => None,
    })
}

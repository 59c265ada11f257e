//! Writes pcapng, the capture file with interface names, packet comments and names of addresses. Knows no socket.
//!
//! Format: draft-ietf-opsawg-pcapng. Timestamps have nanoseconds.

use std::{
    io::{self, Write},
    net::IpAddr,
};

/// A section being written: header, then interfaces, names and packets as they come.
pub struct Writer<W> {
    out: W,
    interfaces: u32,
}

/// How the bytes of an interface's packets begin (tcpdump.org/linktypes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkType {
    Ethernet = 1,
    /// An IP header.
    Raw = 101,
}

/// Number of an interface in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface(u32);

/// One packet.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    pub interface: Interface,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// Length on the wire.
    pub len: u32,
    pub bytes: &'a [u8],
    pub outgoing: Option<bool>,
    /// What people should know about it; empty for nothing.
    pub comment: &'a str,
}

impl<W: Write> Writer<W> {
    /// Writes the section header.
    pub fn new(out: W) -> io::Result<Self> {
        let mut writer = Self { out, interfaces: 0 };
        let mut body = Vec::new();
        body.extend(BYTE_ORDER.to_ne_bytes());
        body.extend(1_u16.to_ne_bytes());
        body.extend(0_u16.to_ne_bytes());
        // The length of the section is not known beforehand.
        body.extend(u64::MAX.to_ne_bytes());
        option(&mut body, SHB_USERAPPL, format!("netctl {}", env!("CARGO_PKG_VERSION")).as_bytes());
        end_of_options(&mut body);
        writer.block(SECTION_HEADER, &body)?;
        Ok(writer)
    }

    /// Adds an interface. `snaplen` is the most bytes a packet of it has.
    pub fn interface(
        &mut self,
        name: &str,
        description: &str,
        link: LinkType,
        snaplen: u32,
    ) -> io::Result<Interface> {
        const NANOSECONDS: u8 = 9;
        let mut body = Vec::new();
        body.extend((link as u16).to_ne_bytes());
        body.extend(0_u16.to_ne_bytes());
        body.extend(snaplen.to_ne_bytes());
        option(&mut body, IF_NAME, name.as_bytes());
        option(&mut body, IF_DESCRIPTION, description.as_bytes());
        option(&mut body, IF_TSRESOL, &[NANOSECONDS]);
        end_of_options(&mut body);
        self.block(INTERFACE_DESCRIPTION, &body)?;
        self.interfaces += 1;
        Ok(Interface(self.interfaces - 1))
    }

    /// Says which names the addresses have.
    pub fn names(&mut self, names: &[(IpAddr, String)]) -> io::Result<()> {
        let mut body = Vec::new();
        for (address, name) in names {
            let (kind, mut record) = match address {
                IpAddr::V4(address) => (NRB_RECORD_IPV4, address.octets().to_vec()),
                IpAddr::V6(address) => (NRB_RECORD_IPV6, address.octets().to_vec()),
            };
            record.extend(name.bytes().filter(|byte| *byte != 0));
            record.push(0);
            option(&mut body, kind, &record);
        }
        // The end of the records looks like that of options.
        end_of_options(&mut body);
        self.block(NAME_RESOLUTION, &body)
    }

    /// Adds a packet.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let Packet { interface, time_ns, len, bytes, outgoing, comment } = packet;
        let captured = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut body = Vec::with_capacity(bytes.len() + 64);
        body.extend(interface.0.to_ne_bytes());
        let halves = [time_ns >> 32, time_ns & 0xffff_ffff];
        for half in halves {
            body.extend(u32::try_from(half).map_err(io::Error::other)?.to_ne_bytes());
        }
        body.extend(captured.to_ne_bytes());
        body.extend(len.to_ne_bytes());
        body.extend(*bytes);
        pad(&mut body);
        option(&mut body, OPT_COMMENT, comment.as_bytes());
        if let Some(outgoing) = outgoing {
            let flags: u32 = if *outgoing { 2 } else { 1 };
            option(&mut body, EPB_FLAGS, &flags.to_ne_bytes());
        }
        end_of_options(&mut body);
        self.block(ENHANCED_PACKET, &body)
    }

    /// Hands on what is buffered, so that a reader at the other end sees it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Body lengths are multiples of four; the total length stands before and behind.
    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len() + 12).map_err(io::Error::other)?;
        self.out.write_all(&kind.to_ne_bytes())?;
        self.out.write_all(&len.to_ne_bytes())?;
        self.out.write_all(body)?;
        self.out.write_all(&len.to_ne_bytes())
    }
}

/// An option, unless it is empty.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_ne_bytes());
    body.extend(u16::try_from(value.len()).expect("cut to fit").to_ne_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const NAME_RESOLUTION: u32 = 4;
const ENHANCED_PACKET: u32 = 6;
const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const NRB_RECORD_IPV4: u16 = 1;
const NRB_RECORD_IPV6: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_and_aligned() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes).unwrap();
        let interface = writer.interface("n1/c1/eth0", "", LinkType::Raw, 100).unwrap();
        writer.names(&[("10.0.0.1".parse().unwrap(), "c1".to_owned())]).unwrap();
        for len in 0..5 {
            let packet = Packet {
                interface,
                time_ns: 1 << 33,
                len: 9,
                bytes: &[7; 5][..len],
                outgoing: None,
                comment: "x",
            };
            writer.packet(&packet).unwrap();
        }
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let (mut at, mut kinds) = (0, Vec::new());
        while at < bytes.len() {
            let len = usize::try_from(word(at + 4)).unwrap();
            assert_eq!((len % 4, word(at + len - 4), word(at + 4)), (0, word(at + 4), word(at + len - 4)));
            kinds.push(word(at));
            at += len;
        }
        assert_eq!(kinds[..3], [SECTION_HEADER, INTERFACE_DESCRIPTION, NAME_RESOLUTION]);
        assert_eq!(kinds[3..], [ENHANCED_PACKET; 5]);
    }
}

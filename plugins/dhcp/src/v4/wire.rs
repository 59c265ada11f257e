//! The client's link for IPv4: frames, for a client that has no address yet.

use std::net::Ipv4Addr;

use kernel::{
    error::Result,
    frames::{End, FrameSocket, Packet},
    link::Dev,
    mac::MacAddr,
};

use crate::v4::client::{Outgoing, To};

/// A link to send and receive on.
#[derive(Debug)]
pub struct Wire {
    pub frames: FrameSocket,
    mac: MacAddr,
}

impl Wire {
    /// In the namespace of the calling thread.
    pub fn open(dev: &Dev, mac: MacAddr) -> Result<Self> {
        Ok(Self { frames: FrameSocket::open(dev, CLIENT_PORT)?, mac })
    }

    pub fn send(&self, outgoing: &Outgoing) -> Result<()> {
        let Outgoing { message, from, to } = outgoing;
        let (address, mac) = match to {
            To::Everybody => (Ipv4Addr::BROADCAST, MacAddr::BROADCAST),
            To::Server { address, mac } => (*address, *mac),
        };
        let from = End { mac: self.mac, address: *from, port: CLIENT_PORT };
        self.frames.send(from, End { mac, address, port: SERVER_PORT }, message)
    }

    /// None when there is nothing yet.
    pub fn receive(&self) -> Result<Option<Packet>> {
        self.frames.receive()
    }
}

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

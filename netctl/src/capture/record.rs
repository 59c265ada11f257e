//! Records the packets of namespaces of one node, as events. Knows no file.

use std::{
    io::{self, PipeReader},
    os::fd::AsFd,
};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    filter::Filter,
    sniffer::{DeviceNames, Frame, Sniffer},
};
use crate::{
    agent::{
        place::Place,
        protocol::{CapturePlace, Captured, Event},
    },
    packet::Packet,
};

/// Open sockets, one a namespace or device.
pub struct Recorder {
    wires: Vec<Wire>,
    filter: Filter,
}

struct Wire {
    place: Place,
    sniffer: Sniffer,
    names: DeviceNames,
}

impl Recorder {
    /// Opens all or fails: a capture that lacks a namespace would mislead.
    pub fn open(places: Vec<CapturePlace>, filter: Filter, snaplen: u32) -> anyhow::Result<Self> {
        let snaplen = usize::try_from(snaplen)?;
        let open = |CapturePlace { place, device }: CapturePlace| {
            let what = device.as_deref().unwrap_or("all devices");
            let sniffer = place
                .run(|| Sniffer::open(device.as_deref(), snaplen))?
                .with_context(|| format!("capture {what} of {}", place.name))?;
            Ok(Wire { place, sniffer, names: DeviceNames::default() })
        };
        let wires = places.into_iter().map(open).collect::<anyhow::Result<_>>()?;
        Ok(Self { wires, filter })
    }

    /// Records until `stop` is closed.
    pub fn run(mut self, stop: &PipeReader, emit: &dyn Fn(Event)) -> io::Result<()> {
        loop {
            let stopped = {
                let mut fds = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
                let sockets = self.wires.iter().map(|wire| wire.sniffer.as_fd());
                fds.extend(sockets.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
                match poll(&mut fds, PollTimeout::NONE) {
                    Err(nix::errno::Errno::EINTR) => continue,
                    polled => polled?,
                };
                fds[0].any().unwrap_or(true)
            };
            for Wire { place, sniffer, names } in &mut self.wires {
                let lost = sniffer.lost;
                sniffer.drain(|frame| {
                    if self.filter.matches(&decode(&frame)) {
                        let devices = || place.devices().unwrap_or_default();
                        let device = names.device(frame.ifindex, devices).name;
                        emit(Event::Captured(captured(frame, &place.name, device)));
                    }
                })?;
                if sniffer.lost != lost {
                    let (netns, packets) = (place.name.clone(), u64::from(sniffer.lost));
                    emit(Event::Missed { netns, packets });
                }
            }
            if stopped {
                return Ok(());
            }
        }
    }
}

fn decode(frame: &Frame) -> Packet {
    match frame.ethernet {
        true => Packet::ethernet(&frame.bytes),
        false => Packet::network(frame.protocol, &frame.bytes),
    }
}

fn captured(frame: Frame, netns: &str, device: String) -> Captured {
    let Frame { time_ns, outgoing, ethernet, len, bytes, .. } = frame;
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    Captured { time_ns, netns: netns.to_owned(), device, outgoing, ethernet, len, bytes }
}

//! VRFs: domains of routing within a namespace (Documentation/networking/vrf.rst). What comes in by a port of one, and what is
//! sent by it, is led by the VRF's own table.

use netlink_packet_route::link::{InfoData, InfoKind, InfoVrf};

use crate::{link::create::New, netlink::Request};

/// Makes a VRF with that table. `EEXIST` if the name is taken. The first one of a namespace brings its rules, which ask the
/// tables of VRFs and stay.
pub fn add(link: New, table: u32) -> Request {
    link.add_as(InfoKind::Vrf, Some(InfoData::Vrf(vec![InfoVrf::TableId(table)])))
}

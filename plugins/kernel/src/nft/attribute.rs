//! Attributes that netlink-packet-netfilter has no type for.

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};

/// A 32-bit number; nf_tables has them all in network order.
pub(crate) fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

pub(crate) fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; attributes.buffer_len()];
    attributes.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

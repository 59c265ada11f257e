//! The MAC spoof check: a bridge drops what enters by a container's port with a sender other than the container's own.

use kernel::{
    mac::MacAddr,
    nft::{element::Element, value::Value},
};

use super::{
    owner::Owner,
    plan::{Group, Plan},
    schema::{Feature, Place},
};

/// What to check for one attachment.
#[derive(Clone, Copy, Debug)]
pub struct SpoofCheck<'a> {
    /// The bridge port: the host's end of the veth, whose name no other attachment has.
    pub port: &'a str,
    /// The only sender it may use.
    pub mac: MacAddr,
    /// Whose it is.
    pub owner: &'a Owner,
}

impl SpoofCheck<'_> {
    pub(super) fn plan(&self, plan: &mut Plan) {
        let port = Value::Ifname(self.port.to_owned());
        let element = |place, key| (place, Element::new(key).commented(self.owner.comment()));
        plan.features.insert(Feature::SpoofCheck);
        plan.groups.push(Group {
            guard: None,
            elements: vec![
                element(Place::spoof_allowed(), vec![port.clone(), Value::Mac(self.mac)]),
                element(Place::spoof_checked(), vec![port]),
            ],
        });
    }
}

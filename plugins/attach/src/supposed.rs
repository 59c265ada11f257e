//! A record that is lost, as the configuration of the ADD and its result have it: for who puts it back. How a plugin gets from
//! those to its record, the plugin knows.

use anyhow::Context;
use cni::names::Attachment;
use kernel::nft::Nft;
use serde::{Serialize, de::IgnoredAny};
use serde_json::Value;

use crate::{
    record::{Error, Records},
    ruleset::plan::Plan,
};

/// What a plugin is supposed to have made for an attachment.
#[derive(Debug, Clone)]
pub struct Supposed {
    /// The plugin's type, under which its records are.
    pub plugin: &'static str,
    /// What is in the suite's tables by it.
    pub ruleset: Plan,
    data: Value,
}

impl Supposed {
    /// By the record's data.
    pub fn new<T: Serialize>(
        plugin: &'static str,
        data: &T,
        ruleset: Plan,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self { plugin, ruleset, data: serde_json::to_value(data)? })
    }

    /// Whether the plugin has no record of the attachment.
    pub fn is_lost(&self, attachment: &Attachment) -> Result<bool, Error> {
        let records = Records::of(self.plugin, &attachment.network);
        Ok(records.find::<IgnoredAny>(attachment)?.is_none())
    }

    /// Writes the record, and puts in what is in the tables by it; leaves neither when that fails. Does nothing where somebody
    /// wrote a record meanwhile.
    pub fn restore(&self, attachment: &Attachment, nft: &mut Nft) -> anyhow::Result<()> {
        if !self.is_lost(attachment)? {
            return Ok(());
        }
        let records = Records::of(self.plugin, &attachment.network);
        records.begin(attachment, &self.data)?;
        if let Err(err) = self.ruleset.add(nft) {
            // What got in before the error is out of somebody else's way only when it is gone.
            self.ruleset.remove(nft)?;
            records.forget(attachment)?;
            return Err(err).with_context(|| format!("restore what {} had made", self.plugin));
        }
        Ok(records.complete(attachment)?)
    }
}

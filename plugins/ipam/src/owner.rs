//! Whose a lease is, as the lease file says it.

use cni::names::Attachment;

use crate::place::hash;

/// The holder of a lease: its file's content without white space around it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner(String);

impl Owner {
    pub(crate) fn new(at: &Attachment) -> Self {
        Self(format!("{}{SEPARATOR}{}", at.container, at.ifname))
    }

    /// As old versions of the reference wrote it: the container alone, for whichever interface.
    pub(crate) fn legacy(at: &Attachment) -> Self {
        Self(at.container.to_string())
    }

    /// Reads a lease file's content. `None` when it is torn, as a crash of the host leaves it: empty, or with zeros
    /// where data never reached the disk.
    pub(crate) fn parse(content: &[u8]) -> Option<Self> {
        let content = String::from_utf8_lossy(content);
        let owner = content.trim();
        (!owner.is_empty() && !owner.contains('\0')).then(|| Self(owner.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub fn container(&self) -> &str {
        self.0.split_once(SEPARATOR).map_or(&self.0, |(container, _)| container)
    }

    /// `None` in a legacy lease.
    pub fn ifname(&self) -> Option<&str> {
        self.0.split_once(SEPARATOR).map(|(_, ifname)| ifname)
    }

    /// The name of the owner's entry in the index.
    pub(crate) fn key(&self) -> String {
        hash(self.0.as_bytes())
    }
}

/// `LineBreak` of the reference's `backend/disk`.
const SEPARATOR: &str = "\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_of_lease_files() {
        fn check(content: &str, expected: Option<(&str, Option<&str>)>) {
            let owner = Owner::parse(content.as_bytes());
            assert_eq!(owner.as_ref().map(|o| (o.container(), o.ifname())), expected, "{content:?}");
        }
        check("c1\r\neth0", Some(("c1", Some("eth0"))));
        check(" c1\r\neth0\n", Some(("c1", Some("eth0"))));
        check("c1", Some(("c1", None)));
        check("c1\n", Some(("c1", None)));
        check("", None);
        check(" \r\n", None);
        check("c1\0\0\0\0\0\0\0", None);
    }
}

//! The mark of an attachment on its elements.

use std::fmt::Write;

use cni::names::{Attachment, NetworkName};
use kernel::nft::comment;
use sha2::{Digest, Sha256};

/// Whose an element is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    comment: String,
    tag: String,
}

impl Owner {
    /// The comment is `<network>/<container>/<ifname>`. Where that would be longer than nft reads back, or holds what nft
    /// cannot quote, a `~` and a hash take the place of the end: no container's name contains a `~`.
    pub fn of(attachment: &Attachment) -> Self {
        let Attachment { network, container, ifname } = attachment;
        let mut comment = format!("{}{container}/{ifname}", prefix(network));
        if comment.len() > comment::MAX || !ifname.as_str().bytes().all(is_quotable) {
            let hash = format!("~{}", attachment.hash(HASH));
            comment = format!("{}{container}", prefix(network));
            comment.truncate(comment::MAX - hash.len());
            comment.push_str(&hash);
        }
        Self { comment, tag: attachment.host_veth() }
    }

    /// What the elements of this attachment carry as their comment.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// What the maps of owners map to: the name of the attachment's host veth, which holds a hash of all three names.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }
}

/// How the comments of all attachments of a network begin.
pub(super) fn prefix(network: &NetworkName) -> String {
    let mut prefix = network.to_string();
    if prefix.len() > NETWORK {
        let hash = Sha256::digest(network.as_str());
        prefix.truncate(NETWORK - 1 - HASH);
        prefix.push('~');
        for byte in &hash[..HASH / 2] {
            let _ = write!(prefix, "{byte:02x}");
        }
    }
    prefix.push('/');
    prefix
}

fn is_quotable(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"'
}

/// Leaves room for a container of 64 and an interface of 15 bytes.
const NETWORK: usize = 46;
const HASH: usize = 16;

#[cfg(test)]
mod tests {
    use cni::names::Attachment;

    use super::{Owner, prefix};

    fn attachment(network: &str, container: &str, ifname: &str) -> Attachment {
        Attachment {
            network: network.parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: ifname.parse().unwrap(),
        }
    }

    fn comment(network: &str, container: &str, ifname: &str) -> String {
        let attachment = attachment(network, container, ifname);
        let comment = Owner::of(&attachment).comment().to_owned();
        assert!(comment.len() <= 128, "{comment}");
        assert!(comment.starts_with(&prefix(&attachment.network)), "{comment}");
        comment
    }

    #[test]
    fn names_the_attachment() {
        assert_eq!(comment("podman", "c1", "eth0"), "podman/c1/eth0");
        let (network, container) = ("n".repeat(46), "c".repeat(64));
        let longest = comment(&network, &container, "eth0123456789ab");
        assert_eq!(longest, format!("{network}/{container}/eth0123456789ab"));
    }

    #[test]
    fn shortens_without_mixing_up() {
        let long = "n".repeat(200);
        assert_ne!(comment(&format!("{long}a"), "c", "eth0"), comment(&format!("{long}b"), "c", "eth0"));
        let long = "c".repeat(200);
        assert_ne!(comment("n", &format!("{long}a"), "eth0"), comment("n", &format!("{long}b"), "eth0"));
        assert!(comment("n", &long, "eth0").starts_with("n/cccc"));
        assert!(!comment("n", "c", "e\"0").contains('"'));
        assert!(!comment("n", "c", "é0").contains('é'));
        assert_ne!(comment("n", "c", "e\"0"), comment("n", "c", "e\"1"));
    }
}

//! Comments, in the user data that nft reads and writes: type, length, text with its NUL (libnftnl udata.h).
//!
//! The kernel has room for 256 bytes (NFT_USERDATA_MAXLEN); `nft -f` reads at most 128 back (NFTNL_UDATA_COMMENT_MAXLEN).

/// Longest comment that `nft list ruleset` prints in a way that `nft -f` takes again.
pub const MAX: usize = 128;

/// The same number for rules (NFTNL_UDATA_RULE_COMMENT) and elements (NFTNL_UDATA_SET_ELEM_COMMENT).
const COMMENT: u8 = 0;

pub(crate) fn encode(text: &str) -> Vec<u8> {
    let mut end = text.len().min(MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text.as_bytes()[..end];
    let mut data = vec![COMMENT, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    data.extend(text);
    data.push(0);
    data
}

pub(crate) fn decode(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        data = rest;
    }
    None
}

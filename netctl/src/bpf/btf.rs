//! Reads the kernel's own type information: offsets of structure members, names of an enum's values, arguments of a
//! tracepoint. Knows no program.
//!
//! Format: Documentation/bpf/btf.rst, include/uapi/linux/btf.h.

use std::{collections::BTreeMap, io, path::Path};

/// Where the running kernel shows its types (CONFIG_DEBUG_INFO_BTF).
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why a type could not be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read: the kernel is built without BTF.
    #[error("read {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not BTF, or cut short.
    #[error("kernel type information is malformed: {0}")]
    Malformed(&'static str),
    /// No such type or member in this kernel.
    #[error("this kernel has no {0}")]
    Missing(String),
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// All types of one kernel.
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Position of each type in `bytes`; type 0 is void and has none.
    types: Vec<usize>,
}

/// Kinds, `BTF_KIND_*`.
mod kind {
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const INT: u32 = 1;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const ENUM64: u32 = 19;
}

const TYPE_HEADER: usize = 12;

impl Btf {
    /// The types of the running kernel.
    pub fn vmlinux() -> Result<Self> {
        Self::open(Path::new(VMLINUX))
    }

    fn open(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).map_err(|source| Error::Read { path: path.display().to_string(), source })?;
        Self::parse(bytes)
    }

    /// Walks the type section once and notes where each type begins.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        const MAGIC: u16 = 0xeb9f;
        if bytes.get(..2) != Some(&MAGIC.to_ne_bytes()[..]) {
            return Err(Error::Malformed("no BTF magic"));
        }
        let mut btf = Self { bytes, strings: 0, types: vec![0] };
        let header = btf.word(4)?;
        let start = header + btf.word(8)?;
        let end = start + btf.word(12)?;
        btf.strings = header + btf.word(16)?;
        let mut at = start;
        while at < end {
            btf.types.push(at);
            at += TYPE_HEADER + btf.tail(at)?;
        }
        Ok(btf)
    }

    /// Byte offset of `member` in `structure`; a dotted member descends (`nd_net.net`). Members of anonymous
    /// structures inside count as the structure's own, as in C.
    pub fn offset(&self, structure: &str, member: &str) -> Result<u32> {
        let missing = || Error::Missing(format!("struct {structure} with member {member}"));
        let mut id = self.find(kind::STRUCT, structure)?.ok_or_else(missing)?;
        let mut bits = 0;
        for name in member.split('.') {
            let (offset, of) = self.member(id, name)?.ok_or_else(missing)?;
            bits += offset;
            id = of;
        }
        Ok(bits / 8)
    }

    /// The names of an enum by value.
    pub fn enumeration(&self, name: &str) -> Result<BTreeMap<u32, String>> {
        let id = self.find(kind::ENUM, name)?.ok_or_else(|| Error::Missing(format!("enum {name}")))?;
        let at = self.types[id];
        (0..self.vlen(at)?)
            .map(|i| at + TYPE_HEADER + 8 * i)
            .map(|entry| Ok((self.half_word(entry + 4)?, self.name(entry)?.to_owned())))
            .collect()
    }

    /// What a raw tracepoint hands to its program, in order: the name of each argument's type, behind pointers and
    /// qualifiers; empty for `void *`.
    pub fn tracepoint(&self, name: &str) -> Result<Vec<String>> {
        let missing = || Error::Missing(format!("tracepoint {name}"));
        let typedef = self.find(kind::TYPEDEF, &format!("btf_trace_{name}"))?.ok_or_else(missing)?;
        let proto = self.strip(typedef)?;
        let at = self.types[proto];
        if self.kind(at)? != kind::FUNC_PROTO {
            return Err(missing());
        }
        // The first parameter is the tracepoint's own data, which programs are not given.
        (1..self.vlen(at)?)
            .map(|i| self.word(at + TYPE_HEADER + 8 * i + 4))
            .map(|id| match self.strip(id?)? {
                0 => Ok(String::new()),
                id => Ok(self.name(self.types[id])?.to_owned()),
            })
            .collect()
    }

    /// Follows pointers, typedefs and qualifiers to the type behind; 0 is void.
    fn strip(&self, mut id: usize) -> Result<usize> {
        for _ in 0..16 {
            let Some(&at) = self.types.get(id) else { return Err(Error::Malformed("type out of range")) };
            // PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG carry the next type in place of a size.
            if id == 0 || !matches!(self.kind(at)?, kind::PTR | kind::TYPEDEF..=11 | 18) {
                return Ok(id);
            }
            id = self.word(at + 8)?;
        }
        Err(Error::Malformed("endless chain of types"))
    }

    fn find(&self, kind: u32, name: &str) -> Result<Option<usize>> {
        for (id, &at) in self.types.iter().enumerate().skip(1) {
            if self.kind(at)? == kind && self.is_named(at, name)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Offset in bits and type of a member, also inside anonymous members.
    fn member(&self, id: usize, name: &str) -> Result<Option<(u32, usize)>> {
        let id = self.strip(id)?;
        let Some(&at) = self.types.get(id).filter(|_| id != 0) else { return Ok(None) };
        if !matches!(self.kind(at)?, kind::STRUCT | kind::UNION) {
            return Ok(None);
        }
        // With kind_flag set the upper byte is the width of a bit-field.
        let mask = if self.half_word(at + 4)? >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        for i in 0..self.vlen(at)? {
            let entry = at + TYPE_HEADER + 12 * i;
            let (of, bits) = (self.word(entry + 4)?, self.half_word(entry + 8)? & mask);
            let this = self.name(entry)?;
            if this == name {
                return Ok(Some((bits, of)));
            }
            if this.is_empty()
                && let Some((inner, of)) = self.member(of, name)?
            {
                return Ok(Some((bits + inner, of)));
            }
        }
        Ok(None)
    }

    /// Bytes that follow a type's header.
    fn tail(&self, at: usize) -> Result<usize> {
        let vlen = self.vlen(at)?;
        Ok(match self.kind(at)? {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * vlen,
            kind::ENUM | kind::FUNC_PROTO => 8 * vlen,
            2..=19 => 0,
            _ => return Err(Error::Malformed("unknown kind of type")),
        })
    }

    fn kind(&self, at: usize) -> Result<u32> {
        Ok(self.half_word(at + 4)? >> 24 & 0x1f)
    }

    fn vlen(&self, at: usize) -> Result<usize> {
        Ok(self.word(at + 4)? & 0xffff)
    }

    /// Compares without looking for the string's end: there are a hundred thousand types.
    fn is_named(&self, at: usize, name: &str) -> Result<bool> {
        let text = self.bytes.get(self.strings + self.word(at)?..).ok_or(Error::Malformed("cut short"))?;
        Ok(text.starts_with(name.as_bytes()) && text.get(name.len()) == Some(&0))
    }

    /// The string that the word at `at` names.
    fn name(&self, at: usize) -> Result<&str> {
        let text = self.bytes.get(self.strings + self.word(at)?..).ok_or(Error::Malformed("cut short"))?;
        let end = text.iter().position(|&byte| byte == 0).ok_or(Error::Malformed("endless string"))?;
        std::str::from_utf8(&text[..end]).map_err(|_| Error::Malformed("name is no text"))
    }

    fn half_word(&self, at: usize) -> Result<u32> {
        let bytes = self.bytes.get(at..at + 4).ok_or(Error::Malformed("cut short"))?;
        Ok(bytes.try_into().map(u32::from_ne_bytes).expect("four bytes were taken"))
    }

    fn word(&self, at: usize) -> Result<usize> {
        usize::try_from(self.half_word(at)?).map_err(|_| Error::Malformed("offset out of range"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_running_kernel() {
        let btf = Btf::vmlinux().unwrap();
        // sk_buff begins with `next`; `dev` sits in an anonymous union, `protocol` in a nested one.
        assert_eq!(btf.offset("sk_buff", "next").unwrap(), 0);
        assert!(btf.offset("sk_buff", "protocol").unwrap() > btf.offset("sk_buff", "dev").unwrap());
        assert!(btf.offset("net", "ns.inum").unwrap() > 0);
        let reasons = btf.enumeration("skb_drop_reason").unwrap();
        assert_eq!(reasons[&2], "SKB_DROP_REASON_NOT_SPECIFIED");
        assert_eq!(btf.tracepoint("kfree_skb").unwrap()[..3], ["sk_buff", "", "skb_drop_reason"]);
    }

    #[test]
    fn says_what_is_missing() {
        let btf = Btf::vmlinux().unwrap();
        let err = btf.offset("sk_buff", "no_such").unwrap_err();
        assert_eq!(err.to_string(), "this kernel has no struct sk_buff with member no_such");
        assert!(matches!(btf.tracepoint("no_such"), Err(Error::Missing(_))));
    }

    #[test]
    fn refuses_what_is_cut_short_without_panic() {
        let whole = std::fs::read(VMLINUX).unwrap();
        for keep in [0, 1, 2, 10, 23, 24, 100, 5000, whole.len() / 2] {
            let cut = Btf::parse(whole[..keep].to_vec());
            assert!(cut.and_then(|btf| btf.offset("sk_buff", "protocol")).is_err(), "{keep} bytes");
        }
    }
}

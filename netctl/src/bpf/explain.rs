//! What the numbers of a drop mean on this kernel: the name of its reason, the function that it happened in.
//! Reason numbers differ from kernel to kernel, so both come from the running one.

use std::{collections::BTreeMap, fs};

use super::btf::Btf;

/// Names of reasons and functions, as they were when it was made.
#[derive(Default)]
pub struct Explainer {
    reasons: BTreeMap<u32, String>,
    symbols: String,
    /// Address and position in `symbols`, in order of address.
    functions: Vec<(u64, usize)>,
}

const REASON_PREFIX: &str = "SKB_DROP_REASON_";

/// No reason was given: the function says more.
pub const UNSPECIFIED: &str = "NOT_SPECIFIED";

impl Explainer {
    /// Reads both; takes some 60 ms, which is the kernel writing its symbols.
    pub fn new(btf: &Btf) -> Self {
        let reasons = btf.enumeration("skb_drop_reason").unwrap_or_default();
        let explainer = Self { reasons, ..Self::default() };
        explainer.with_symbols(fs::read_to_string("/proc/kallsyms").unwrap_or_default())
    }

    /// Lines of `/proc/kallsyms`: an address of 16 digits (8 on 32 bits), a kind, a name, and the module if any.
    fn with_symbols(mut self, symbols: String) -> Self {
        let mut at = 0;
        for line in symbols.split_inclusive('\n') {
            let end = line.find(' ').unwrap_or(0);
            if let Ok(address) = u64::from_str_radix(&line[..end], 16)
                && matches!(line.as_bytes().get(end + 1), Some(b't' | b'T' | b'w' | b'W'))
            {
                self.functions.push((address, at + end + 3));
            }
            at += line.len();
        }
        self.functions.sort_unstable();
        self.symbols = symbols;
        self
    }

    /// `NETFILTER_DROP`. A number when the kernel has no name for it: the upper half is then the subsystem's.
    pub fn reason(&self, number: u32) -> String {
        match self.reasons.get(&number) {
            Some(name) => name.strip_prefix(REASON_PREFIX).unwrap_or(name).to_owned(),
            None => format!("REASON_{number:#x}"),
        }
    }

    /// `nft_do_chain+0x5ad`; the bare address where the kernel does not tell its symbols (kptr_restrict).
    pub fn function(&self, address: u64) -> String {
        let index = self.functions.partition_point(|(start, _)| *start <= address);
        match index.checked_sub(1).map(|index| self.functions[index]) {
            Some((start, at)) if start != 0 => {
                let name = self.symbols.get(at..).and_then(|rest| rest.split_whitespace().next());
                format!("{}+{:#x}", name.unwrap_or("?"), address - start)
            }
            _ => format!("{address:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_told_by_an_address_within() {
        let symbols = "ffff10 T first\nffff40 D data\nffff80 t second [module]\n";
        let explainer = Explainer::default().with_symbols(symbols.to_owned());
        assert_eq!(explainer.function(0xff_ff85), "second+0x5");
        assert_eq!(explainer.function(0xff_ff50), "first+0x40");
        assert_eq!(explainer.function(0x10), "0x10");
        assert_eq!(explainer.reason(0x2_0001), "REASON_0x20001");
    }

    #[test]
    fn this_kernel_has_names() {
        let explainer = Explainer::new(&Btf::vmlinux().unwrap());
        assert_eq!(explainer.reason(2), UNSPECIFIED);
    }
}

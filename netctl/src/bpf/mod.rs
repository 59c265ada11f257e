//! eBPF without clang, libbpf or aya: an assembler, a reader of the kernel's types, a loader, and the one program
//! that netctl runs. Knows no container and no probe.

pub mod asm;
pub mod btf;
pub mod explain;
pub mod skb;
pub mod sys;
pub mod tap;

//! netctl's parts, so that tests and the binary share them.

pub mod bpf;

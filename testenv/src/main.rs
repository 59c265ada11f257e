//! `cargo testenv`: the front door of the lab.

fn main() {}

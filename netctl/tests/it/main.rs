//! netctl as a shell sees it: the real binary, in labs, over real plugins and over one that writes down what it is told.

mod chains;
mod codes;
mod commands;
mod doctor;
#[path = "../examples/mod.rs"]
mod examples;
mod fleet;
mod go;
mod help;
mod leases;
mod node;
mod overlay;
mod protocol;
mod repair;
mod scene;
mod see;
mod show;
mod wire;

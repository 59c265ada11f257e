//! The verbs that watch packets, over real packets in labs.

mod capture;
mod doctor;
mod drops;
#[path = "../examples/mod.rs"]
mod examples;
mod explain;
mod help;
mod hosts;
mod single;
mod trace;

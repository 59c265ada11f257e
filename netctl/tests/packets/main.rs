//! The verbs that watch packets, over real packets in labs.

mod capture;
mod doctor;
mod drops;
mod help;
mod hosts;
mod single;
mod trace;

//! `portmap`.

mod conflict;
mod scale;
mod sctp;
mod traffic;

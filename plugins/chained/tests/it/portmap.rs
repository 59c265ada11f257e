//! `portmap`.

mod conflict;
mod traffic;

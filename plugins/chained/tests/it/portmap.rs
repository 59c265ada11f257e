//! `portmap`.

mod conflict;
mod scale;
mod traffic;

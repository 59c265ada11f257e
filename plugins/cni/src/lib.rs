//! The CNI protocol, all released versions of it (0.1.0 to 1.1.0): what a runtime asks of a plugin, what a plugin
//! answers, and how one plugin calls another.
//!
//! A plugin implements [`run::Plugin`] and its `main` is [`run::run`]. Everything that comes from outside (environment,
//! standard input, another plugin's output) becomes a checked type here or a [`error::Error`] with the code of the
//! specification; no plugin reads an environment variable of its own.
//!
//! Knows no kernel: nothing here opens a socket or changes a network.

mod arena;

pub mod args;
pub mod decode;
pub mod delegate;
pub mod error;
pub mod exec;
pub mod log;
pub mod names;
pub mod request;
pub mod result;
pub mod run;
pub mod version;

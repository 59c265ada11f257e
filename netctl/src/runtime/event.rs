//! What a runtime does, as it happens, for whoever watches.

use std::{path::Path, time::Duration};

use cni::{error::Error, request::Command, result::AddResult};

use crate::cache;

/// Something happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A plugin is called now.
    Calling { program: &'a Path, environment: &'a [(&'a str, &'a str)], stdin: &'a [u8] },
    /// A plugin was called and is done.
    Called(Call<'a>),
    /// An ADD failed; the chain's DEL follows.
    Undoing,
    /// An ADD failed and is not undone, since this was there before.
    NotUndone { before: &'a str },
    /// DEL goes on without the cache entry.
    CacheUnreadable(&'a cache::Error),
    /// DEL goes on without the result in the cache entry.
    ResultUnreadable(&'a Error),
    /// The list is told not to be checked (`disableCheck`) or collected (`disableGC`): nothing was done.
    Disabled { key: &'static str },
    /// The list's version has no such verb: the plugins were not called.
    NotInVersion { command: Command, version: cni::version::Version },
}

/// One call of one plugin.
#[derive(Debug)]
pub struct Call<'a> {
    pub plugin: &'a str,
    pub command: Command,
    pub took: Duration,
    /// Of an ADD, the result before it and its own.
    pub results: Result<(Option<&'a AddResult>, Option<&'a AddResult>), &'a Error>,
}

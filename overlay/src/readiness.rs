//! Waiting in tokio for a descriptor that something else reads. Knows neither.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// A duplicate of `fd` to wait for: it shows what the original would. Needs a tokio runtime.
#[expect(
    deprecated,
    reason = "its successor is unsafe; what that asks for, a descriptor that stays open, OwnedFd is"
)]
pub fn of(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd.try_clone_to_owned()?, Interest::READABLE)
}

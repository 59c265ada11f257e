//! The terminal of `netctl top`: keys as they are pressed. As it was before once it is dropped.

use std::{
    io::{self, IsTerminal, stdin, stdout},
    os::fd::AsFd,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal that gives keys at once and shows none.
pub(super) struct Terminal {
    before: Termios,
}

impl Terminal {
    /// None where standard input is none.
    pub(super) fn open() -> Option<Self> {
        if !stdin().is_terminal() {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        let mut keys = before.clone();
        // What interrupts is a key like others, so that the terminal is put back first.
        keys.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(stdin(), OptionalActions::Now, &keys).ok()?;
        Some(Self { before })
    }

    /// The keys that are pressed until then, as soon as there are any.
    pub(super) fn keys(&self, patience: Duration) -> io::Result<Vec<u8>> {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let stdin = stdin();
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(Vec::new()),
            polled => polled?,
        };
        let mut bytes = [0; 64];
        let read = nix::unistd::read(stdin.as_fd(), &mut bytes)?;
        // Whoever pressed keys has gone.
        if read == 0 {
            return Ok(vec![b'q']);
        }
        Ok(bytes[..read].to_vec())
    }

    /// In lines.
    pub(super) fn height() -> usize {
        const USUAL: usize = 24;
        tcgetwinsize(stdout()).map_or(USUAL, |size| usize::from(size.ws_row)).max(USUAL)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing is left to try where it fails.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

//! How a run of netctl ends, for scripts.

use std::process::ExitCode;

/// The exit status. Where no key is read, SIGINT's 130 is the shell's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: all is well.
    Fine,
    /// 1: a finding, a drop, a failed check or a failed CNI call.
    Finding,
    /// 2: a mistake in the command line, or a name that means nothing here.
    Usage,
    /// 3: netctl could not do its work: permission, a missing kernel feature, a peer out of reach.
    CouldNotRun,
    /// 4: nothing was found, but some checks could not be made.
    Partial,
    /// 130: the user ended it, as a shell says of SIGINT.
    Interrupted,
}

impl Exit {
    /// Of two looks together: what was found counts more than what was not looked at.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Finding, _) | (_, Self::Finding) => Self::Finding,
            (Self::Fine, other) => other,
            (this, _) => this,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Finding => 1,
            Exit::Usage => 2,
            Exit::CouldNotRun => 3,
            Exit::Partial => 4,
            Exit::Interrupted => 130,
        })
    }
}

/// Why a verb did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The words of the user are wrong: [`Exit::Usage`].
    #[error("{0}")]
    Usage(String),
    /// [`Exit::CouldNotRun`].
    #[error("{0:#}")]
    CouldNotRun(anyhow::Error),
}

impl Failure {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::CouldNotRun(_) => Exit::CouldNotRun,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(err: anyhow::Error) -> Self {
        Self::CouldNotRun(err)
    }
}

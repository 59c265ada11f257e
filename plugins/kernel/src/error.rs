//! The one error of this crate: what was attempted, on what, and what the kernel said.

use std::{fmt, io};

use nix::libc;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An act that the kernel refused.
///
/// Displays as `add address 10.1.0.1/16 to cni0: File exists (os error 17)`, with the kernel's own explanation
/// (extended acknowledgement) behind it where there is one. The cause is part of the text, so `source()` is `None`
/// and a chain printed with `{:#}` says it once.
#[derive(Debug)]
pub struct Error {
    act: String,
    source: io::Error,
    extack: Option<String>,
}

impl Error {
    /// `act` names the act and the object: `add address 10.1.0.1/16 to cni0`.
    pub fn new(act: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { act: act.into(), source: source.into(), extack: None }
    }

    /// As [`Error::new`], with the text that the kernel gave beside the number.
    pub fn with_extack(act: impl Into<String>, source: impl Into<io::Error>, extack: Option<String>) -> Self {
        Self { extack, ..Self::new(act, source) }
    }

    /// A reply or a file that does not say what the kernel's documentation promises.
    pub(crate) fn malformed(act: impl Into<String>, what: impl fmt::Display) -> Self {
        Self::new(act, io::Error::new(io::ErrorKind::InvalidData, what.to_string()))
    }

    /// What was attempted, on what.
    pub fn act(&self) -> &str {
        &self.act
    }

    /// The kernel's explanation, where it gave one.
    pub fn extack(&self) -> Option<&str> {
        self.extack.as_deref()
    }

    /// The errno, unless the error was found on our side (a malformed reply).
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// The cause as `std` classifies it.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The object is there already.
    pub fn is_exists(&self) -> bool {
        self.raw_os_error() == Some(libc::EEXIST)
    }

    /// The object, or the link or file that would hold it, is not there. `EADDRNOTAVAIL` is what `RTM_DELADDR` says
    /// (net/ipv4/devinet.c, net/ipv6/addrconf.c), `ESRCH` what `RTM_DELROUTE` says.
    pub fn is_missing(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV | libc::EADDRNOTAVAIL))
    }

    /// This kernel does not know the kind of object or the operation.
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self.raw_os_error(),
            Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::ENOSYS)
        )
    }

    /// A capability is missing, or the file system is read-only.
    pub fn is_permission(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EROFS))
    }

    /// The object is in use, or the index, name or port is taken.
    pub fn is_busy(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::EBUSY | libc::EADDRINUSE))
    }

    /// More came in than the receive queue holds, and some is lost: what was heard has to be asked for again.
    pub fn is_overrun(&self) -> bool {
        self.raw_os_error() == Some(libc::ENOBUFS)
    }

    /// There is no route, or one that refuses (`unreachable`, `prohibit` and `blackhole` of ip-route(8)).
    pub fn is_unreachable(&self) -> bool {
        let refusals = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL];
        self.raw_os_error().is_some_and(|code| refusals.contains(&code))
    }

    /// Time ran out while waiting.
    pub fn is_timeout(&self) -> bool {
        self.kind() == io::ErrorKind::TimedOut
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.act, self.source)?;
        self.extack.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::Error;

    #[test]
    fn names_act_cause_and_explanation() {
        let act = "add address 10.1.0.1/16 to cni0";
        assert_eq!(
            Error::new(act, Errno::EEXIST).to_string(),
            "add address 10.1.0.1/16 to cni0: File exists (os error 17)"
        );
        assert_eq!(
            Error::with_extack(act, Errno::EINVAL, Some("IPv6 is off".into())).to_string(),
            "add address 10.1.0.1/16 to cni0: Invalid argument (os error 22): IPv6 is off"
        );
    }

    #[test]
    fn classifies_errno() {
        let of = |errno: Errno| {
            let e = Error::new("x", errno);
            [e.is_exists(), e.is_missing(), e.is_unsupported(), e.is_permission(), e.is_busy()]
        };
        assert_eq!(of(Errno::EEXIST), [true, false, false, false, false]);
        for errno in [Errno::ENOENT, Errno::ESRCH, Errno::ENODEV, Errno::EADDRNOTAVAIL] {
            assert_eq!(of(errno), [false, true, false, false, false], "{errno}");
        }
        assert_eq!(of(Errno::EOPNOTSUPP), [false, false, true, false, false]);
        assert_eq!(of(Errno::EROFS), [false, false, false, true, false]);
        assert_eq!(of(Errno::EBUSY), [false, false, false, false, true]);
        assert_eq!(of(Errno::EINVAL), [false; 5]);
    }
}

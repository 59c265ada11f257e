//! The requests (ioctl(2)) to the character device of taps, behind functions that cannot be misused: the only `unsafe` of
//! this crate. Knows no namespace.
#![expect(
    unsafe_code,
    reason = "ioctl(2) takes pointers, and no safe crate makes a tap without configuring it too"
)]

use std::{
    mem,
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::libc;

mod request {
    use nix::libc::{c_int, ifreq};

    // include/uapi/linux/if_tun.h; the last takes a pointer to something else than its number says.
    nix::ioctl_write_int!(persist, b'T', 203);
    nix::ioctl_write_int!(owner, b'T', 204);
    nix::ioctl_write_int!(group, b'T', 206);
    nix::ioctl_readwrite_bad!(attach, nix::request_code_write!(b'T', 202, size_of::<c_int>()), ifreq);
}

/// Attaches the file to the interface of that name, which is made if there is none.
pub(super) fn attach(file: BorrowedFd<'_>, name: &str, flags: u16) -> nix::Result<()> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    // The last byte stays 0, for the kernel's sake.
    if name.len() >= ifr_name.len() {
        return Err(nix::Error::ENAMETOOLONG);
    }
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: all bits 0 are a valid `ifreq`, which has numbers, arrays and pointers that nobody follows here.
    let mut asked: libc::ifreq = unsafe { mem::zeroed() };
    asked.ifr_name = ifr_name;
    asked.ifr_ifru.ifru_flags = flags.cast_signed();
    // SAFETY: the descriptor is open, and `asked` lives until the call is over; the kernel reads and writes one `ifreq` there.
    unsafe { request::attach(file.as_raw_fd(), &raw mut asked) }.map(drop)
}

/// Lets the interface stay when no file is attached any more.
pub(super) fn persist(file: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the descriptor is open; the argument is a number.
    unsafe { request::persist(file.as_raw_fd(), 1) }.map(drop)
}

pub(super) fn set_owner(file: BorrowedFd<'_>, uid: u32) -> nix::Result<()> {
    // SAFETY: as of `persist`.
    unsafe { request::owner(file.as_raw_fd(), uid.into()) }.map(drop)
}

pub(super) fn set_group(file: BorrowedFd<'_>, gid: u32) -> nix::Result<()> {
    // SAFETY: as of `persist`.
    unsafe { request::group(file.as_raw_fd(), gid.into()) }.map(drop)
}

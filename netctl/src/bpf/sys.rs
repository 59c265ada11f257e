//! The bpf(2) system call and the memory that a BPF ring buffer shares with the kernel: the only `unsafe` of netctl,
//! behind functions that cannot be misused. Knows no program.
//!
//! No maintained crate offers this without clang or libelf at build time, so the four commands we need are here.
#![expect(
    unsafe_code,
    reason = "bpf(2) takes pointers and a ring buffer is shared memory; no safe crate offers either"
)]

use std::{
    ffi::c_void,
    io,
    num::NonZeroUsize,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use nix::{
    libc,
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
};

use super::asm::Insn;

/// Kinds of map we make (`enum bpf_map_type`).
#[derive(Clone, Copy, Debug)]
pub enum MapKind {
    Hash = 1,
    PerCpuArray = 6,
    RingBuffer = 27,
}

/// What the kernel says of a program it refuses.
#[derive(Debug, thiserror::Error)]
#[error("load BPF program: {errno}{}", trace(log))]
pub struct LoadError {
    /// What the kernel returned; in the text, where it stands before the verifier's words.
    pub errno: io::Error,
    /// The verifier's account; empty when it never ran (no permission).
    pub log: String,
}

fn trace(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; verifier: {log}") }
}

// Each is the part of `union bpf_attr` that its command reads.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapUpdate {
    fd: u64,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    kind: u32,
    count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    prog: u32,
    pad: u32,
}

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// `bpf(cmd, attr)`.
///
/// # Safety
/// `T` is the layout that `cmd` reads, and every address in `attr` points to memory of the length that `attr` says,
/// which nothing else uses during the call.
unsafe fn bpf<T>(cmd: libc::c_int, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the caller vouches for what `attr` points to; the kernel copies no more than the given size from it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, cmd, std::ptr::from_mut(attr), size_of::<T>()) };
    i32::try_from(result).ok().filter(|&value| value >= 0).ok_or_else(io::Error::last_os_error)
}

/// # Safety
/// As for [`bpf`]; besides, `cmd` is one that returns a new descriptor.
unsafe fn bpf_fd<T>(cmd: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: passed on to the caller. The descriptor is new, so nobody else owns it.
    unsafe { bpf(cmd, attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Makes a map; sizes in bytes. It lives as long as its descriptor and the programs that use it.
pub fn create_map(kind: MapKind, key_size: u32, value_size: u32, entries: u32) -> io::Result<OwnedFd> {
    let mut attr = MapCreate { kind: kind as u32, key_size, value_size, max_entries: entries, flags: 0 };
    // SAFETY: the attribute holds no address.
    unsafe { bpf_fd(BPF_MAP_CREATE, &mut attr) }
}

/// Puts `key` into a hash map with 4-byte keys and values.
pub fn insert(map: BorrowedFd<'_>, key: u32, value: u32) -> io::Result<()> {
    let mut attr = MapUpdate {
        fd: u64::try_from(map.as_raw_fd()).expect("an open descriptor is not negative"),
        key: address(&raw const key),
        value: address(&raw const value),
        flags: 0,
    };
    // SAFETY: key and value are four bytes, live until the call returns, and every hash map here is made with these
    // sizes (`create_set`).
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// A hash map of 4-byte keys, for [`insert`].
pub fn create_set(entries: u32) -> io::Result<OwnedFd> {
    create_map(MapKind::Hash, 4, 4, entries)
}

/// Checks and loads a raw-tracepoint program.
pub fn load(insns: &[Insn]) -> Result<OwnedFd, LoadError> {
    // Reading kernel memory is for programs that say they are GPL-compatible, as ours is (dual licence).
    const LICENSE: &[u8] = b"Dual MIT/GPL\0";
    let mut log = vec![0_u8; 256 * 1024];
    let mut attr = ProgLoad {
        kind: BPF_PROG_TYPE_RAW_TRACEPOINT,
        count: u32::try_from(insns.len()).unwrap_or(u32::MAX),
        insns: address(insns.as_ptr()),
        license: address(LICENSE.as_ptr()),
        ..ProgLoad::default()
    };
    // SAFETY: `insns` holds `count` instructions of 8 bytes, the licence ends in a zero; no log is asked for.
    let errno = match unsafe { bpf_fd(BPF_PROG_LOAD, &mut attr) } {
        Ok(fd) => return Ok(fd),
        Err(err) => err,
    };
    attr.log_level = 1;
    attr.log_size = u32::try_from(log.len()).unwrap_or(0);
    attr.log = address(log.as_mut_ptr());
    // SAFETY: as above; besides, `log` has `log_size` writable bytes that only this call uses.
    if let Ok(fd) = unsafe { bpf_fd(BPF_PROG_LOAD, &mut attr) } {
        return Ok(fd);
    }
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(0);
    Err(LoadError { errno, log: String::from_utf8_lossy(&log[..end]).trim().to_owned() })
}

/// Runs `program` at the tracepoint until the returned descriptor closes.
pub fn attach(program: BorrowedFd<'_>, tracepoint: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(tracepoint)?;
    let prog = u32::try_from(program.as_raw_fd()).expect("an open descriptor is not negative");
    let mut attr = RawTracepointOpen { name: address(name.as_ptr()), prog, pad: 0 };
    // SAFETY: `name` is a C string that lives until the call returns.
    unsafe { bpf_fd(BPF_RAW_TRACEPOINT_OPEN, &mut attr) }
}

fn address<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.addr()).expect("an address has at most 64 bits")
}

/// The reading side of a ring buffer map (kernel/bpf/ringbuf.c). Readable for poll(2) when records wait.
pub struct Ring {
    map: OwnedFd,
    /// Page the consumer position is written to.
    consumer: Mapping,
    /// Page with the producer position, then the data, mapped twice in a row so that no record wraps.
    producer: Mapping,
    page: usize,
    mask: u64,
}

struct Mapping {
    start: NonNull<c_void>,
    len: NonZeroUsize,
}

// SAFETY: the pointers are to memory shared with the kernel, not with another thread; `Ring` is used by `&mut`.
unsafe impl Send for Ring {}

impl Ring {
    /// Makes a ring buffer of `size` bytes, a power of two and a multiple of the page size.
    pub fn create(size: u32) -> io::Result<Self> {
        let map = create_map(MapKind::RingBuffer, 0, 0, size)?;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?
            .and_then(|size| usize::try_from(size).ok())
            .ok_or_else(|| io::Error::other("the system does not say its page size"))?;
        let data = usize::try_from(size).map_err(io::Error::other)? * 2;
        let consumer = Mapping::of(&map, page, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, 0)?;
        let producer = Mapping::of(&map, page + data, ProtFlags::PROT_READ, page)?;
        Ok(Self { map, consumer, producer, page, mask: u64::from(size) - 1 })
    }

    /// Hands every waiting record to `each` and frees it.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        const BUSY: u32 = 1 << 31;
        const DISCARDED: u32 = 1 << 30;
        const HEADER: usize = 8;
        loop {
            let position = self.consumer().load(Ordering::Relaxed);
            if position >= self.produced().load(Ordering::Acquire) {
                return;
            }
            let offset = self.page + usize::try_from(position & self.mask).expect("an offset within the map");
            // SAFETY: records start at multiples of 8 within the data area, and the producer position says that
            // this one's header is there; its length word is atomic because the kernel clears BUSY in it.
            let header = unsafe { self.producer.at::<AtomicU32>(offset).as_ref() }.load(Ordering::Acquire);
            if header & BUSY != 0 {
                return;
            }
            let len = usize::try_from(header & !DISCARDED).expect("a length below 2^30");
            if header & DISCARDED == 0 {
                // SAFETY: a record that is not busy is `len` bytes after its header, contiguous because the data is
                // mapped twice; the kernel leaves it alone until the consumer position passes it, below.
                each(unsafe {
                    std::slice::from_raw_parts(self.producer.at::<u8>(offset + HEADER).as_ptr(), len)
                });
            }
            let step = u64::try_from((len + HEADER).next_multiple_of(8)).expect("a length below 2^30");
            self.consumer().store(position + step, Ordering::Release);
        }
    }

    fn consumer(&self) -> &AtomicU64 {
        // SAFETY: the page begins with the consumer position, a word that only we write, mapped while `self` lives.
        unsafe { self.consumer.at::<AtomicU64>(0).as_ref() }
    }

    fn produced(&self) -> &AtomicU64 {
        // SAFETY: the mapping begins with the producer position, which the kernel writes atomically.
        unsafe { self.producer.at::<AtomicU64>(0).as_ref() }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl Mapping {
    fn of(map: &OwnedFd, len: usize, prot: ProtFlags, offset: usize) -> io::Result<Self> {
        let len = NonZeroUsize::new(len).ok_or_else(|| io::Error::other("empty mapping"))?;
        let offset = i64::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address the kernel chooses touches no memory of ours.
        let start = unsafe { mmap(None, len, prot, MapFlags::MAP_SHARED, map, offset)? };
        Ok(Self { start, len })
    }

    /// Pointer to a `T` at `offset`; a place beyond the mapping is refused.
    fn at<T>(&self, offset: usize) -> NonNull<T> {
        assert!(offset + size_of::<T>() <= self.len.get(), "offset {offset} is outside of the ring buffer");
        // SAFETY: within the mapping, as just checked.
        unsafe { self.start.byte_add(offset) }.cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `of` made exactly this mapping, and no reference into it outlives `self`. Nothing can be done
        // about a failure, and none is possible for a range that is mapped.
        let _ = unsafe { munmap(self.start, self.len.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::asm::{Assembler, R0, R6};

    #[test]
    fn a_refused_program_shows_what_the_verifier_said() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let mut asm = Assembler::default();
        asm.mov(R0, R6);
        asm.exit();
        let err = load(&asm.finish()).unwrap_err();
        assert_eq!(err.errno.raw_os_error(), Some(libc::EACCES));
        assert!(err.log.contains("R6 !read_ok"), "{}", err.log);
        assert!(err.to_string().starts_with("load BPF program: Permission denied"), "{err}");
    }
}

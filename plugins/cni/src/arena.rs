//! The plugins' allocator: a process that lives for milliseconds takes its memory from one block, front to back.
//!
//! What was taken last can be given back or grown where it is, which is what strings and vectors under construction do; the
//! rest stays until the end. Whatever does not fit into the block, as in an agent or a plugin that lists thousands of
//! leases, is dlmalloc's. Knows nothing of CNI.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    sync::atomic::{AtomicUsize, Ordering},
};

use dlmalloc::GlobalDlmalloc;

pub(crate) struct Arena {
    block: Block,
    /// Bytes of the block that are taken.
    taken: AtomicUsize,
}

/// Aligned as a page, so that its first is not shared with others' data.
#[repr(align(4096))]
struct Block(UnsafeCell<[u8; SIZE]>);

const SIZE: usize = 256 * 1024;

impl Arena {
    pub(crate) const fn new() -> Self {
        Self { block: Block(UnsafeCell::new([0; SIZE])), taken: AtomicUsize::new(0) }
    }

    fn start(&self) -> *mut u8 {
        self.block.0.get().cast()
    }

    /// Where in the block `pointer` is.
    fn offset(&self, pointer: *mut u8) -> Option<usize> {
        let offset = (pointer as usize).wrapping_sub(self.start() as usize);
        (offset < SIZE).then_some(offset)
    }

    /// Gives `size` bytes at `offset` the new size `wanted`, when they are the last that were taken.
    fn resize_last(&self, offset: usize, size: usize, wanted: usize) -> bool {
        let end = offset + wanted;
        end <= SIZE
            && self.taken.compare_exchange(offset + size, end, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[expect(unsafe_code, reason = "handing out memory is")]
// SAFETY: every byte of the block belongs to one thread at a time, since `taken` moves in one step.
unsafe impl Sync for Arena {}

#[expect(unsafe_code, reason = "the trait is")]
// SAFETY: a piece of the block is handed out once, aligned as asked for, until it is given back as the last one.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut taken = self.taken.load(Ordering::Relaxed);
        loop {
            let offset = taken.next_multiple_of(layout.align());
            // Beyond the alignment of the block itself nothing is promised.
            if layout.align() > 4096 || layout.size() > SIZE - offset.min(SIZE) {
                // SAFETY: as the caller's.
                return unsafe { GlobalDlmalloc.alloc(layout) };
            }
            let end = offset + layout.size();
            match self.taken.compare_exchange_weak(taken, end, Ordering::AcqRel, Ordering::Relaxed) {
                // SAFETY: offset is within the block.
                Ok(_) => return unsafe { self.start().add(offset) },
                Err(now) => taken = now,
            }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match self.offset(pointer) {
            Some(offset) => _ = self.resize_last(offset, layout.size(), 0),
            // SAFETY: what is not of the block is dlmalloc's.
            None => unsafe { GlobalDlmalloc.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(pointer) else {
            // SAFETY: what is not of the block is dlmalloc's.
            return unsafe { GlobalDlmalloc.realloc(pointer, layout, size) };
        };
        if self.resize_last(offset, layout.size(), size) {
            return pointer;
        }
        // SAFETY: a size that the caller vouches for, with the same alignment; two pieces don't overlap.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(pointer, layout.size().min(size));
                self.dealloc(pointer, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::SIZE;

    /// What threads take from the block, grow, give back, and take beyond its end keeps its content. The tests' allocator is
    /// the one that is tested.
    #[test]
    fn memory_is_everybodys_own() {
        let work = |own: u8| {
            let mut kept: Vec<Vec<u8>> = Vec::new();
            for round in 0..300 {
                let mut bytes = Vec::with_capacity(1);
                for _ in 0..round {
                    bytes.push(own);
                }
                let passing = vec![own ^ 0xff; round];
                kept.push(bytes);
                drop(passing);
                if round % 7 == 0 {
                    kept.remove(kept.len() / 2);
                }
            }
            kept.iter().flatten().filter(|byte| **byte == own).count()
        };
        let expected = work(1);
        assert!(expected * 8 > SIZE, "{expected} bytes would fit");
        thread::scope(|scope| {
            let threads: Vec<_> = (2..10).map(|own| scope.spawn(move || work(own))).collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), expected);
            }
        });
    }

    #[test]
    fn memory_is_aligned() {
        #[repr(align(64))]
        struct Line([u8; 64]);
        #[repr(align(8192))]
        struct Pages([u8; 8192]);
        for _ in 0..10 {
            let (byte, line, pages) = (Box::new(1_u8), Box::new(Line([2; 64])), Box::new(Pages([3; 8192])));
            assert_eq!((*byte, line.0[63], pages.0[8191]), (1, 2, 3));
            assert_eq!((&raw const *line as usize % 64, &raw const *pages as usize % 8192), (0, 0));
        }
    }
}

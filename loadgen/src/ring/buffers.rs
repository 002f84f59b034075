//! Memory that the kernel reads and writes: the provided receive buffers and the send buffers.
//!
//! Both are mapped once, page aligned, and never move. Who may touch a buffer is tracked by
//! index: a receive buffer belongs to the kernel until a completion names it, and to the caller
//! until it is recycled; a send buffer belongs to the caller until pushed, to the kernel until
//! its completion.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::entry::BUFFER_GROUP;

/// A private anonymous mapping, unmapped on drop.
struct Mapping {
    start: NonNull<u8>,
    len: NonZeroUsize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        let len = NonZeroUsize::new(len.max(1)).expect("max(1) is not zero");
        let flags = MapFlags::MAP_PRIVATE;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: an anonymous mapping at an address that the kernel chooses aliases nothing.
        let start = unsafe { mmap_anonymous(None, len, prot, flags) }?;
        Ok(Self { start: start.cast(), len })
    }

    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len.get());
        // SAFETY: the offset was just checked to lie inside the mapping.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one that was mapped, and self is its only owner.
        let unmapped = unsafe { munmap(self.start.cast(), self.len.get()) };
        debug_assert!(unmapped.is_ok());
    }
}

/// A ring of equal receive buffers from which the kernel picks (`io_uring_register_buf_ring(3)`,
/// kernel 5.19).
pub(super) struct RecvBuffers {
    entries: Mapping,
    bytes: Mapping,
    count: u16,
    size: u32,
    tail: u16,
    free: u32,
}

impl RecvBuffers {
    /// Maps and registers `count` (a power of two up to 32,768) buffers of `size` bytes.
    pub fn register(submitter: &Submitter<'_>, count: u16, size: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two() && size > 0);
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let bytes = Mapping::new(usize::from(count) * size as usize)?;
        // SAFETY: the mapping holds `count` entries, is page aligned as the call wants, and lives
        // in the same owner as the ring, which is dropped first (see KernelRing's field order).
        unsafe {
            submitter.register_buf_ring_with_flags(
                entries.start.as_ptr() as u64,
                count,
                BUFFER_GROUP,
                0,
            )?;
        }
        let mut this = Self { entries, bytes, count, size, tail: 0, free: 0 };
        for id in 0..count {
            this.recycle(id);
        }
        Ok(this)
    }

    /// The first `len` bytes of a buffer that a completion named.
    pub fn get(&self, id: u16, len: u32) -> &[u8] {
        assert!(id < self.count && len <= self.size);
        let start = self.bytes.at(usize::from(id) * self.size as usize);
        // SAFETY: inside the mapping (asserted above); the kernel has handed this buffer over with
        // its completion and gets it back only by `recycle`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(start, len as usize) }
    }

    /// Notes that the kernel took a buffer.
    pub fn taken(&mut self) {
        self.free -= 1;
    }

    /// Gives a buffer to the kernel.
    pub fn recycle(&mut self, id: u16) {
        assert!(id < self.count && self.free < u32::from(self.count));
        let index = usize::from(self.tail & (self.count - 1));
        let base = self.entries.start.as_ptr().cast::<BufRingEntry>();
        let address = self.bytes.at(usize::from(id) * self.size as usize) as u64;
        // SAFETY: index < count, so the entry lies inside the mapping; the kernel reads an entry
        // only after the tail below has passed it, so that nobody reads it meanwhile.
        let entry = unsafe { &mut *base.add(index) };
        entry.set_addr(address);
        entry.set_len(self.size);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies inside the first entry of a live mapping, is two bytes, aligned,
        // and is shared with the kernel only by atomic access; release publishes the entry.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
        self.free += 1;
    }

    /// Buffers that the kernel holds.
    pub fn free(&self) -> u32 {
        self.free
    }
}

/// A stack of equal send buffers.
pub(super) struct SendBuffers {
    bytes: Mapping,
    count: u32,
    size: u32,
    free: Vec<u32>,
}

impl SendBuffers {
    pub fn new(count: u32, size: u32) -> io::Result<Self> {
        let bytes = Mapping::new(count as usize * size as usize)?;
        Ok(Self { bytes, count, size, free: (0..count).rev().collect() })
    }

    /// How many are taken.
    pub fn used(&self) -> u32 {
        self.count - self.free.len() as u32
    }

    /// Whether all are under way.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    pub fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    pub fn release(&mut self, id: u32) {
        debug_assert!(!self.free.contains(&id), "send buffer {id} released twice");
        self.free.push(id);
    }

    pub fn get_mut(&mut self, id: u32) -> &mut [u8] {
        let start = self.bytes.at(id as usize * self.size as usize);
        // SAFETY: inside the mapping (`at` checks the start, and the mapping is a whole number of
        // buffers); a taken buffer has one holder, and the kernel only reads it while a send is
        // under way, during which its holder keeps the name without calling this.
        unsafe { std::slice::from_raw_parts_mut(start, self.size as usize) }
    }

    pub fn pointer(&self, id: u32, from: u32, to: u32) -> *const u8 {
        assert!(from <= to && to <= self.size);
        self.bytes.at(id as usize * self.size as usize + from.min(self.size - 1) as usize)
    }
}

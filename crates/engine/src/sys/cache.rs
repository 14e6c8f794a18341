//! Hints for the processor's caches.

/// Bytes that a cache holds or drops together.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Has the processor fetch `value` while it does something else. With hundreds of connections
/// nothing of the next one is in a near cache any more; one system call is long enough to bring it.
#[inline]
pub fn prefetch<T>(value: &T) {
    prefetch_at(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// The same for so many bytes wherever they are: it is a hint, which nothing reads.
#[inline]
#[cfg(target_arch = "x86_64")]
pub fn prefetch_at(start: *const u8, size: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    for offset in (0..size).step_by(LINE) {
        // SAFETY: a prefetch takes any address, and is none the worse for a wrong one.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset).cast()) };
    }
}

#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub fn prefetch_at(_start: *const u8, _size: usize) {}

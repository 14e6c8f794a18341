//! Hints for the processor's caches.

/// Bytes that a cache holds or drops together.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Has the processor fetch `value` while it does something else. With hundreds of connections
/// nothing of the next one is in a near cache any more; one system call is long enough to bring it.
#[inline]
#[cfg(target_arch = "x86_64")]
pub fn prefetch<T>(value: &T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    let start = std::ptr::from_ref(value).cast::<i8>();
    for offset in (0..size_of::<T>()).step_by(LINE) {
        // SAFETY: all of it lies within `value`, and a prefetch does not even read it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(offset)) };
    }
}

#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub fn prefetch<T>(_value: &T) {}

//! The loop's clock. One of the files with `unsafe`.

/// Seconds, as `time.monotonic()` has them.
#[allow(clippy::cast_precision_loss)]
pub fn monotonic() -> f64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` lives across the call, and this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    // As CPython does it: the whole nanoseconds are made a float, so that both give the same one.
    (i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)) as f64 * 1e-9
}

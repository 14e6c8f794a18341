//! What the peer has acknowledged: the one sign of life of a slow reader, once the kernel has all.
//!
//! The kernel tells nobody; it has to be asked. That is done when a deadline comes up, a few times
//! within each timeout, and only while bytes are under way.

use std::os::fd::BorrowedFd;

use crate::sys::net;
use crate::timers::Millis;

/// The kernel is asked so often within a timeout: by one such part a silent peer may be cut late.
const LOOKS: Millis = 4;

#[derive(Default)]
pub(super) struct Acknowledged {
    /// Bytes given to the kernel until the last look, and how many of them were acknowledged then.
    given: u64,
    done: i64,
    looked_at: Millis,
}

impl Acknowledged {
    /// Whether bytes are under way, as far as is known.
    pub fn is_behind(&self, given: u64) -> bool {
        given != self.given || self.was_behind()
    }

    fn was_behind(&self) -> bool {
        self.done != self.given.cast_signed()
    }

    /// When to look again, `timeout` having run since `active`.
    pub fn next_look(&self, active: Millis, timeout: Millis) -> Millis {
        let step = timeout / LOOKS;
        active.max(self.looked_at).saturating_add(step.max(1))
    }

    /// Asks the kernel. Whether the peer has read on since the last look.
    pub fn look(&mut self, fd: BorrowedFd<'_>, given: u64, now: Millis) -> bool {
        let waiting = net::unacknowledged(fd);
        // Of a unix socket the kernel counts its own overhead as well: this may be negative.
        let done = given.cast_signed() - i64::try_from(waiting).unwrap_or(i64::MAX);
        // What was acknowledged before anybody looked was so as soon as it was sent.
        let read_on = (waiting > 0 || self.was_behind()) && done > self.done;
        *self = Self {
            given,
            done,
            looked_at: now,
        };
        read_on
    }
}

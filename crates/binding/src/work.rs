//! What the turns of one engine work with, kept from one to the next.

use std::time::Duration;

use mantou_engine::Events;

use crate::lending::{Lender, ReadBuffer};

/// Bytes per read.
pub const BUFFER_SIZE: usize = 512 * 1024;

/// What a turn works with.
pub struct Work {
    pub events: Events,
    /// The first event that is not handled yet.
    pub next: usize,
    /// From here on all events are of handshakes, if those were put behind the others.
    pub handshakes: usize,
    /// What whole slices of turns went by with since the last wait.
    pub for_others: Duration,
    pub for_handshakes: Duration,
    pub buffer: ReadBuffer,
    /// Ciphertext for drivers that are not the engine's, while `buffer` takes what they make of it.
    pub ciphertext: ReadBuffer,
    pub lender: Lender,
    /// Bytes that the last read brought; the next is likely to bring about as many.
    pub last_read: usize,
    /// The last question for events came back empty.
    pub was_idle: bool,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            events: Events::default(),
            next: 0,
            handshakes: usize::MAX,
            for_others: Duration::ZERO,
            for_handshakes: Duration::ZERO,
            buffer: ReadBuffer::new(BUFFER_SIZE),
            ciphertext: ReadBuffer::new(BUFFER_SIZE),
            lender: Lender::default(),
            last_read: 0,
            was_idle: false,
        }
    }
}

impl Work {
    pub fn has_events(&self) -> bool {
        self.next < self.events.len()
    }

    /// For the events of another wait.
    pub fn begin(&mut self) {
        self.next = 0;
        self.handshakes = usize::MAX;
        self.for_others = Duration::ZERO;
        self.for_handshakes = Duration::ZERO;
    }
}

//! What leaves through the session: gathered, sealed when its turn comes, and the goodbye behind it.

use super::{Driver, Outgoing, Secure};
use crate::buffer::{Piece, SendQueue};
use crate::stream::CORK_SIZE;

impl Secure {
    pub fn take_outgoing(&mut self) -> Outgoing {
        self.asked = false;
        // Without that somebody only read: what is gathered, under a cork perhaps, is not due yet.
        let due = std::mem::take(&mut self.wants_pump);
        if !self.established || !due {
            return Outgoing::default();
        }
        let plaintext = std::mem::take(&mut self.gathered);
        self.sealed += plaintext.len() as u64;
        let finish = std::mem::take(&mut self.wants_notify);
        self.notified |= finish;
        Outgoing { plaintext, finish }
    }

    pub fn gathered(&self) -> usize {
        self.gathered.len() + self.waiting_in_files()
    }

    /// No more is gathered until a file was sent, or a foreign driver has sealed what there is.
    pub fn waits_for_turn(&self) -> bool {
        let is_full = self.gathered.len() >= CORK_SIZE;
        (matches!(self.driver, Driver::Foreign) && is_full) || self.files.is_some()
    }

    pub fn forget_gathered(&mut self) {
        self.gathered = Vec::new();
        self.files = None;
    }

    pub fn wants_flush(&self) -> bool {
        let due = self.established && !self.dead && !self.gathered.is_empty();
        due && !self.asked && !self.stalled
    }

    /// Whether so many bytes more are still little, and can be sealed.
    pub fn takes(&self, len: usize) -> bool {
        let is_next = self.established && !self.stalled && self.files.is_none();
        is_next && self.gathered.len() + len < CORK_SIZE
    }

    /// Whether what is accepted now can be sealed right away: nothing is before it.
    pub(super) fn is_next(&self) -> bool {
        self.established && !self.dead && self.gathered.is_empty() && self.files.is_none()
    }

    /// Gathers what is to be sealed later, by a foreign driver if there is one.
    pub fn gather(&mut self, pieces: &[Piece<'_>]) {
        for piece in pieces {
            self.gathered.extend_from_slice(piece.bytes);
        }
        self.wants_pump |= self.is_foreign();
    }

    /// Puts what the session has to say by itself into the queue.
    pub(super) fn speak(&mut self, queue: &mut SendQueue) {
        if let (true, Driver::Native(session)) = (self.started, &mut self.driver) {
            queue.append(|out| session.take_output(out));
        }
    }

    /// The same, and what was gathered.
    pub(super) fn seal(&mut self, queue: &mut SendQueue) {
        if !self.started {
            return;
        }
        self.speak(queue);
        if !self.established || self.dead || self.gathered.is_empty() {
            return;
        }
        if let Driver::Foreign = self.driver {
            self.wants_pump |= !self.stalled;
            return;
        }
        let gathered = std::mem::take(&mut self.gathered);
        self.seal_now(&gathered, queue);
    }

    pub(super) fn seal_now(&mut self, data: &[u8], queue: &mut SendQueue) {
        let Driver::Native(session) = &mut self.driver else {
            return self.gathered.extend_from_slice(data);
        };
        self.sealed += data.len() as u64;
        if let Err(error) = queue.append(|out| session.seal(data, out)) {
            self.break_off(error);
        }
    }

    /// Says goodbye, once, behind everything that was accepted. False while it cannot yet.
    pub(super) fn notify(&mut self, queue: &mut SendQueue) -> bool {
        if self.dead {
            return true;
        }
        if !self.established {
            return false;
        }
        if self.notified {
            return !self.stalled;
        }
        match &mut self.driver {
            Driver::Native(session) => {
                queue.append(|out| session.close_notify(out));
                self.notified = true;
            }
            Driver::Foreign => {
                self.wants_notify = true;
                self.wants_pump = true;
            }
        }
        self.notified
    }
}

//! How bytes leave: at once, under a cork, from the queue; and what follows the last one.

use std::io::IoSlice;
use std::sync::Arc;

use super::{CORK_SIZE, Secure, Stream, Written};
use crate::buffer::{Piece, VECTORS};
use crate::error::WriteAllError;
use crate::file::{FilePart, FileProgress};
use crate::packet::Unspeakable;
use crate::state::Input;
use crate::tls::TlsError;

impl Stream {
    pub fn write(&mut self, data: &[u8]) -> Written {
        if !self.can_write() {
            self.note_refused();
            return Written::Closed;
        }
        if self.sends_packets() {
            return self.write_packet(data);
        }
        if self.secure.is_some() {
            return self.write_secure(data);
        }
        if self.corks > 0 {
            return self.write_corked(data);
        }
        if data.is_empty() {
            return Written::Accepted(0);
        }
        let sent = if self.queue.is_empty() {
            self.send(data)
        } else {
            0
        };
        if self.broken.is_some() {
            return Written::Closed;
        }
        self.drain_owed |= sent < data.len();
        Written::Accepted(sent)
    }

    /// Sends in the clear what is not the application's.
    pub fn send_preface(&mut self, preface: &[u8]) {
        let sent = self.send(preface);
        if self.broken.is_none() {
            // A new connection has room for it, else what is left over counts as the application's.
            self.sent -= sent as u64;
            self.queue.push(&preface[sent..]);
            self.refused = !self.queue.is_empty();
        }
    }

    /// Gathers what fits under the cork; behind bytes that the kernel refused, nothing is taken.
    fn write_corked(&mut self, data: &[u8]) -> Written {
        let mut taken = 0;
        while taken < data.len() {
            if self.queue.len() >= CORK_SIZE {
                self.send_queue();
                if self.broken.is_some() {
                    return Written::Closed;
                }
            }
            if self.refused {
                self.drain_owed = true;
                break;
            }
            let n = (CORK_SIZE - self.queue.len()).min(data.len() - taken);
            self.queue.push(&data[taken..taken + n]);
            taken += n;
        }
        Written::Accepted(taken)
    }

    pub fn write_all(&mut self, data: &[u8]) -> Result<(), WriteAllError> {
        self.accept(Piece::lent(data), self.settings.write_limit)?;
        self.owe_drain();
        Ok(())
    }

    /// As `write_all`, for one who waits before it sends more: without a limit, or `drain`.
    pub fn send_all(&mut self, data: Piece<'_>) -> Result<(), WriteAllError> {
        self.accept(data, usize::MAX)
    }

    /// `drain` is owed for what was just taken, if it has to wait.
    pub(super) fn owe_drain(&mut self) {
        let waiting = self.buffered();
        self.drain_owed |= waiting > 0;
        self.drain_if_refused |= self.queued() > waiting;
    }

    /// Takes everything, in pieces that leave together. Returns how many bytes have to wait.
    pub fn transmit(&mut self, pieces: &[Piece<'_>]) -> Option<usize> {
        if !self.can_write() {
            return None;
        }
        if self.secure.is_some() {
            for piece in pieces {
                self.accept_secure(piece.bytes);
            }
        } else {
            for some in pieces.chunks(VECTORS) {
                let mut sent = 0;
                if self.queue.is_empty() && some.iter().any(|piece| !piece.bytes.is_empty()) {
                    sent = self.send_together(some);
                }
                if self.broken.is_some() {
                    break;
                }
                self.queue_behind(some, sent);
            }
            self.refused = !self.queue.is_empty();
        }
        Some(self.buffered())
    }

    /// Whether so many bytes can wait outside until they are sent: nothing waits here.
    #[inline]
    pub fn may_gather(&self, len: usize) -> bool {
        self.secure.is_none()
            && self.queue.is_empty()
            && len < self.gather_limit as usize
            && self.corks == 0
            && self.can_write()
    }

    /// The TLS side, if so many bytes can wait there until the turn is over: nothing else does.
    #[inline]
    pub fn may_gather_secure(&mut self, len: usize) -> Option<&mut Secure> {
        let free = self.queue.is_empty() && self.corks == 0 && self.can_write();
        let secure = self.secure.as_deref_mut()?;
        (free && secure.takes(len)).then_some(secure)
    }

    /// Sends so many pieces as one system call takes.
    pub(super) fn send_together(&mut self, pieces: &[Piece<'_>]) -> usize {
        if let [only] = pieces {
            return self.send(only.bytes);
        }
        let mut slices = [IoSlice::new(&[]); VECTORS];
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece.bytes);
        }
        self.send_pieces(&slices[..pieces.len()])
    }

    /// Queues what follows the first `sent` bytes.
    pub(super) fn queue_behind(&mut self, pieces: &[Piece<'_>], mut sent: usize) {
        for piece in pieces {
            let gone = sent.min(piece.bytes.len());
            sent -= gone;
            if gone < piece.bytes.len() {
                self.queue.push_rest(piece, gone);
            }
        }
    }

    /// How much is gathered within a turn, and how little has to wait when `drain` is called.
    pub fn set_marks(&mut self, gather_limit: usize, low_water: usize) {
        self.gather_limit = u32::try_from(gather_limit.min(CORK_SIZE)).unwrap_or(u32::MAX);
        self.low_water = low_water;
    }

    /// Takes the last bytes; our FIN follows them.
    pub fn end(&mut self, data: &[u8]) -> Result<(), WriteAllError> {
        // Nothing to say is no packet, and lets the write limit be.
        if !(data.is_empty() && self.can_write()) {
            self.accept(Piece::lent(data), self.settings.write_limit)?;
        }
        self.apply(Input::End);
        Ok(())
    }

    /// Takes everything or nothing. Where nothing waits any size is taken: the caller holds those
    /// bytes anyway, and the limit is on what comes together behind a peer that does not read.
    fn accept(&mut self, piece: Piece<'_>, limit: usize) -> Result<(), WriteAllError> {
        let data = piece.bytes;
        if self.is_broken_off() {
            // As bytes that the kernel took for a peer that is gone: what went wrong is told at once.
            return Ok(());
        }
        if !self.can_write() {
            self.note_refused();
            return Err(WriteAllError::Closed);
        }
        let waiting = self.buffered();
        // The overhead of TLS may have gone over the limit: that is no reason not to end.
        let is_behind = waiting > 0 && !data.is_empty();
        if is_behind && waiting.saturating_add(data.len()) > limit {
            return Err(WriteAllError::OverLimit { waiting, limit });
        }
        if self.sends_packets() {
            return self
                .accept_packet(piece)
                .map_err(|Unspeakable { longest }| WriteAllError::TooLong { longest });
        }
        if self.secure.is_some() {
            self.accept_secure(data);
            return Ok(());
        }
        let mut sent = 0;
        if self.queue.is_empty() && self.corks == 0 && !data.is_empty() {
            sent = self.send(data);
        }
        if sent < data.len() && self.broken.is_none() {
            self.queue.push_rest(&piece, sent);
        }
        self.note_accepted();
        Ok(())
    }

    /// Something was queued: the kernel refused it, or a cork holds it back.
    #[inline]
    pub(super) fn note_accepted(&mut self) {
        if self.corks == 0 {
            self.refused = !self.queue.is_empty();
        } else if self.queue.len() >= CORK_SIZE {
            self.send_queue();
        }
    }

    pub fn apply(&mut self, input: Input) {
        self.state.apply(input);
        self.send_queue();
    }

    pub fn cork(&mut self) {
        self.corks += 1;
    }

    pub fn uncork(&mut self) {
        self.corks = self.corks.saturating_sub(1);
        if self.corks == 0 {
            self.send_queue();
        }
    }

    /// Takes a part of a file: what is accepted from now on is behind it.
    pub fn send_file(&mut self, part: FilePart) -> Result<(), WriteAllError> {
        if !self.can_write() {
            self.note_refused();
            return Err(WriteAllError::Closed);
        }
        let waiting = self.queued();
        // Half of what can be counted is left for bytes in memory, which are never so many.
        if waiting.saturating_add(part.count()) > isize::MAX.cast_unsigned() {
            return Err(WriteAllError::Uncountable { waiting });
        }
        match &mut self.secure {
            Some(secure) => secure.push_file(part),
            None => self.queue.push_file(part),
        }
        self.send_queue();
        Ok(())
    }

    /// Takes back what is not sent of a file, and goes on with what is behind it.
    pub fn withdraw_file(&mut self, progress: &Arc<FileProgress>) {
        self.queue.withdraw_file(progress);
        if let Some(secure) = &mut self.secure {
            secure.withdraw_file(progress);
        }
        self.send_queue();
    }

    /// Whether `drain` is due: it is awaited, and nothing has to wait any more.
    pub fn take_drain(&mut self) -> bool {
        let due = self.awaits_drain() && self.buffered() <= self.low_water;
        if due {
            self.forget_drain();
        }
        due
    }

    /// Whether the owner is to be told once nothing has to wait. Whoever paused until then has to
    /// be told in any case, also if the connection broke: its end is only met by reading on. But a
    /// transport ends with the send that fails.
    pub(super) fn awaits_drain(&self) -> bool {
        // A transport is told also while what is left goes out behind `close()`.
        let is_told = self.state.is_open() || (self.settings.transport && !self.state.is_closed());
        if !(self.drain_owed || self.drain_promised) || !is_told || self.state.held {
            return false;
        }
        // `open` comes first; before that the kernel's having room means nothing.
        let opens_first = self.secure.as_ref().is_some_and(|it| it.opens_first());
        let writes_on = self.state.accepts_writes() || self.drain_promised;
        let reads_on_later = self.state.paused && !self.settings.transport;
        !opens_first && (reads_on_later || (writes_on && !self.is_lost()))
    }

    pub(super) fn forget_drain(&mut self) {
        self.drain_owed = false;
        self.drain_promised = false;
        self.drain_if_refused = false;
    }

    /// Whether those who wait for sent bytes are to be told of each send.
    pub(super) fn watches_sends(&self) -> bool {
        self.watch_sends && !self.is_handshaking()
    }

    pub(super) fn can_write(&self) -> bool {
        self.state.accepts_writes() && !self.is_lost()
    }

    /// TLS has broken, and the owner has not heard of it.
    fn is_broken_off(&self) -> bool {
        self.state.accepts_writes() && self.has_dead_tls()
    }

    /// Nothing can be sent any more.
    fn is_lost(&self) -> bool {
        self.broken.is_some() || self.has_dead_tls()
    }

    /// TLS has broken: nothing can be sealed or opened any more.
    pub fn has_dead_tls(&self) -> bool {
        self.secure.as_ref().is_some_and(|it| it.is_dead())
    }

    /// What it broke of, if the owner has not heard of that.
    pub fn untold_tls_error(&self) -> Option<TlsError> {
        self.secure.as_ref()?.untold_error()
    }

    /// The owner had something to say, but the connection is broken.
    fn note_refused(&mut self) {
        self.lost_bytes |= self.broken.is_some() && self.state.accepts_writes();
    }
}

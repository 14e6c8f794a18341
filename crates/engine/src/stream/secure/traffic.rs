//! A stream over TLS: its handshake, and what it reads and writes through the session.

use std::io::IoSlice;
use std::os::fd::AsFd;

use super::{Driver, FOREIGN_SIZE, Pumped, Scratch, Secure};
use crate::stream::{CORK_SIZE, LOAD, Received, Stream, Written, take_cause, would_block};
use crate::sys::{net, prefetch};
use crate::tls::{Session, TlsError};

impl Stream {
    #[inline]
    pub fn prefetch_secure(&self) {
        if let Some(secure) = &self.secure {
            prefetch(&**secure);
            if let Driver::Native(session) = &secure.driver {
                session.prefetch();
            }
        }
    }

    /// From now on everything goes through a TLS session; what was accepted before leaves in clear.
    pub fn secure_with(&mut self, driver: Driver) {
        self.secure = Some(Box::new(Secure::new(driver)));
        // Whoever takes over has it.
        self.take_waiting();
        self.bytes_read = 0;
        // What held back the plain socket is nothing that the TLS socket could undo.
        self.corks = 0;
        self.forget_drain();
        self.set_paused(false);
        self.set_held(false);
    }

    /// Puts off closing until the handshake is done, if something was accepted that is to leave
    /// behind it.
    pub fn closes_when_secured(&mut self) -> bool {
        if let Some(secure) = &mut self.secure {
            secure.closing = !secure.dead && !secure.gathered.is_empty();
        }
        self.is_closed_when_secured()
    }

    pub fn is_closed_when_secured(&self) -> bool {
        self.secure.as_ref().is_some_and(|secure| secure.closing)
    }

    /// Gives up a handshake: what was accepted before it still leaves, then the FIN. False if
    /// there is nothing that could leave.
    pub fn abort_handshake(&mut self) -> bool {
        if let Some(secure) = &mut self.secure {
            secure.dead = true;
            secure.forget_gathered();
        }
        !self.queue.is_empty()
    }

    pub fn begin_handshake(&mut self) {
        if let Some(secure) = &mut self.secure {
            secure.started = true;
            secure.wants_pump = matches!(secure.driver, Driver::Foreign);
            self.send_queue();
        }
    }

    /// Takes over from a foreign driver, whose session is established and is one of the engine's.
    pub fn adopt_session(&mut self, session: Session, plaintext: &[u8], output: &[u8]) {
        let peer_closed = session.peer_closed();
        if let Some(secure) = &mut self.secure {
            secure.adopt(session);
        }
        self.pumped(&Pumped {
            plaintext,
            output: &[IoSlice::new(output)],
            established: true,
            peer_closed,
            ..Pumped::default()
        });
    }

    /// What a foreign driver has done. True if its plaintext is the caller's to deliver now: then
    /// it was not kept here.
    pub fn pumped(&mut self, pumped: &Pumped<'_>) -> bool {
        let wanted = self.state.delivers() && self.state.wants_input();
        let Some(secure) = &mut self.secure else {
            return false;
        };
        let at_once = wanted && !pumped.plaintext.is_empty() && secure.delivers_at_once();
        secure.pumped(pumped, !at_once);
        let output = pumped.output;
        let len: usize = output.iter().map(|piece| piece.len()).sum();
        secure.note_unasked(len, !self.queue.is_empty());
        secure.note_queued(self.sent + (self.queue.len() + len) as u64);
        let mut sent = if self.queue.is_empty() && len > 0 {
            self.send_pieces(output)
        } else {
            0
        };
        if self.broken.is_none() {
            for piece in output {
                let gone = sent.min(piece.len());
                self.queue.push(&piece[gone..]);
                sent -= gone;
            }
        }
        self.send_own();
        at_once
    }

    pub fn secure(&mut self) -> Option<&mut Secure> {
        self.secure.as_deref_mut()
    }

    /// The session of a transport whose connection is gone: nothing is opened or sealed any more.
    pub fn take_session(&mut self) -> Option<Box<Session>> {
        let is_gone = self.state.is_closed() || self.state.is_lingering();
        let of_transport = self.settings.transport && is_gone;
        let secure = self.secure.as_mut().filter(|_| of_transport)?;
        secure.take_session().map(Box::new)
    }

    pub fn can_restart(&self) -> bool {
        self.state.is_open() && self.secure.as_ref().is_some_and(|secure| !secure.started)
    }

    pub fn is_secure(&self) -> bool {
        self.secure.is_some()
    }

    /// Somebody else opens and seals.
    pub fn is_driven(&self) -> bool {
        self.secure
            .as_ref()
            .is_some_and(|secure| secure.is_foreign())
    }

    pub fn is_handshaking(&self) -> bool {
        self.secure
            .as_ref()
            .is_some_and(|secure| !secure.established)
    }

    pub fn awaits_driver(&self) -> bool {
        self.secure.as_ref().is_some_and(|secure| secure.wants_pump)
    }

    /// Its owner knows of a TLS session that stands.
    pub fn is_established(&self) -> bool {
        self.secure
            .as_ref()
            .is_some_and(|secure| !secure.opens_first())
    }

    pub fn has_unread(&self) -> bool {
        let opened = self.secure.as_ref().is_some_and(|it| it.has_unread());
        opened || self.has_due_packets()
    }

    /// Ciphertext that somebody else has read already.
    pub fn open_early(&mut self, ciphertext: Vec<u8>) {
        if let Some(secure) = &mut self.secure {
            secure.open_early(ciphertext);
            self.send_queue();
        }
    }

    pub(in crate::stream) fn receive_secure(
        &mut self,
        buffer: &mut [u8],
        scratch: &mut Scratch,
    ) -> Received {
        let (Some(secure), Some(fd)) = (&mut self.secure, &self.fd) else {
            return Received::Nothing;
        };
        if let Some(next) = secure.next(buffer) {
            return next;
        }
        if secure.dead {
            return Received::Nothing;
        }
        let foreign = matches!(secure.driver, Driver::Foreign);
        let target = if foreign {
            let size = buffer.len().min(FOREIGN_SIZE);
            &mut buffer[..size]
        } else {
            &mut scratch.ciphertext
        };
        let n = match net::recv(fd.as_fd(), target) {
            Ok(0) => {
                if let Some(error) = take_cause(&mut self.broken) {
                    return Received::Failed(error);
                }
                secure.dead = true;
                return Received::Broken(TlsError::Truncated);
            }
            Ok(n) => n,
            Err(error) if would_block(&error, &mut self.short) => return Received::Nothing,
            Err(error) => return Received::Failed(take_cause(&mut self.broken).unwrap_or(error)),
        };
        // Whoever only waits for the peer's goodbye does not wait longer for other input.
        self.active |= self.state.delivers() || !self.state.must_end_soon();
        let more = n == target.len();
        if foreign {
            return Received::Ciphertext { n, more };
        }
        let received = secure.open(&mut scratch.ciphertext[..n], buffer);
        if secure.session().is_some_and(|session| session.has_output()) {
            self.send_own();
        }
        received
    }

    /// Sends what the session says by itself. What is gathered under a cork is not due yet.
    fn send_own(&mut self) {
        match &mut self.secure {
            Some(secure)
                if self.corks > 0
                    && secure.gathered.len() < CORK_SIZE
                    && !self.state.owes_fin() =>
            {
                secure.speak(&mut self.queue);
                self.send_sealed(false);
            }
            _ => self.send_queue(),
        }
    }

    /// Gathers what fits; it is sealed when the turn or the cork ends, or enough has come together.
    pub(in crate::stream) fn write_secure(&mut self, data: &[u8]) -> Written {
        let mut taken = 0;
        while taken < data.len() {
            let Some(secure) = &mut self.secure else {
                return Written::Closed;
            };
            if !secure.established || !self.queue.is_empty() || secure.files.is_some() {
                self.drain_owed = true;
                break;
            }
            let n = CORK_SIZE
                .saturating_sub(secure.gathered.len())
                .min(data.len() - taken);
            if n == 0 && matches!(secure.driver, Driver::Foreign) {
                self.drain_owed = true;
                // Has the driver come to it, also under a cork.
                self.send_queue();
                break;
            }
            if n == 0 || (n == CORK_SIZE && secure.gathered.is_empty()) {
                if n > 0 {
                    self.send_load(&data[taken..taken + n]);
                } else {
                    self.send_queue();
                }
                if self.broken.is_some() {
                    return Written::Closed;
                }
            } else {
                secure.gathered.extend_from_slice(&data[taken..taken + n]);
            }
            taken += n;
        }
        if self.hung {
            // The connection is gone; sending is how to learn that. A foreign driver has nothing to
            // send yet, but for that nothing is enough.
            self.send_queue();
            if self.broken.is_none() {
                self.send(&[]);
            }
        }
        Written::Accepted(taken)
    }

    /// Seals and sends what is too much to be gathered.
    fn send_load(&mut self, data: &[u8]) {
        if let Some(secure) = &mut self.secure {
            secure.seal_now(data, &mut self.queue);
            secure.note_queued(self.sent + self.queue.len() as u64);
        }
        self.send_queue();
    }

    /// How much would be sealed and sent at once, with nothing of it left to wait; 0 for less than
    /// what is gathered.
    pub fn load_room(&self) -> usize {
        let seals = |secure: &Secure| secure.is_next() && !secure.is_foreign();
        if !(self.secure.as_deref().is_some_and(seals)
            && self.queue.is_empty()
            && self.corks == 0
            && self.can_write())
        {
            return 0;
        }
        // Half of it is for what the kernel counts besides the bytes.
        let room = self.borrow_fd().map_or(0, net::send_room) / 2;
        let load = room.min(LOAD);
        load - load % CORK_SIZE
    }

    /// Takes everything, whatever the kernel says.
    pub(in crate::stream) fn accept_secure(&mut self, data: &[u8]) {
        let mut rest = data;
        while rest.len() >= CORK_SIZE && self.secure.as_deref().is_some_and(Secure::is_next) {
            let load = LOAD.min(rest.len() - rest.len() % CORK_SIZE);
            self.send_load(&rest[..load]);
            rest = &rest[load..];
        }
        for piece in rest.chunks(CORK_SIZE) {
            let Some(secure) = &mut self.secure else {
                return;
            };
            secure.last().extend_from_slice(piece);
            if secure.established && secure.gathered.len() >= CORK_SIZE {
                self.send_queue();
            }
        }
    }

    /// Seals what is gathered, and our goodbye where it is due. False if the FIN has to wait.
    pub(in crate::stream) fn seal(&mut self) -> bool {
        let Some(secure) = &mut self.secure else {
            return true;
        };
        secure.seal(&mut self.queue);
        secure.note_queued(self.sent + self.queue.len() as u64);
        if secure.gathered() > 0 && !secure.dead {
            return false;
        }
        !self.state.owes_fin() || secure.notify(&mut self.queue)
    }
}

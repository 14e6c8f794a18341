//! The TLS side of a connection: what is not sealed yet, what is not delivered yet.

use super::{CORK_SIZE, Received, Stream, Written, would_block};
use crate::buffer::SendQueue;
use crate::engine::Facts;
use crate::sys::net;
use crate::timers::Millis;
use crate::tls::{Authorization, Session, TlsError};
use std::io;
use std::os::fd::AsFd;

/// Buffers that all connections of an engine share while they read.
pub struct Scratch {
    ciphertext: Vec<u8>,
    plaintext: Vec<u8>,
}

/// Ciphertext per read.
const CIPHERTEXT_SIZE: usize = 128 * 1024;

impl Default for Scratch {
    fn default() -> Self {
        Self {
            ciphertext: vec![0; CIPHERTEXT_SIZE],
            plaintext: Vec::new(),
        }
    }
}

/// How the peer's side of a session ended.
enum Ending {
    CloseNotify,
    Broken(TlsError),
}

#[allow(clippy::struct_excessive_bools)]
pub struct Secure {
    session: Session,
    /// The handshake may begin; before that, its settings can still be changed.
    started: bool,
    established: bool,
    /// Our `close_notify` is on its way.
    notified: bool,
    /// The session broke: nothing can be sealed or opened any more.
    dead: bool,
    /// Accepted and not sealed yet.
    gathered: Vec<u8>,
    /// Opened and not delivered yet; empty almost always.
    unread: Vec<u8>,
    ending: Option<Ending>,
    /// Until when the handshake must be done, once the clock was asked.
    deadline: Option<Millis>,
    /// Bytes of the application that were sealed.
    pub sealed: u64,
}

impl Secure {
    pub fn new(session: Session) -> Self {
        Self {
            session,
            started: false,
            established: false,
            notified: false,
            dead: false,
            gathered: Vec::new(),
            unread: Vec::new(),
            ending: None,
            deadline: None,
            sealed: 0,
        }
    }

    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Takes another session instead, as long as nothing was sent. False if it is too late.
    pub fn replace(&mut self, session: Session) -> bool {
        if !self.started {
            self.session = session;
        }
        !self.started
    }

    pub fn facts(&self) -> Facts {
        Facts {
            authorized: self.session.authorization() == Authorization::Passed,
            alpn: self.session.alpn().map(<[u8]>::to_vec),
        }
    }

    pub fn is_dead(&self) -> bool {
        self.dead
    }

    pub fn gathered(&self) -> usize {
        self.gathered.len()
    }

    pub fn forget_gathered(&mut self) {
        self.gathered = Vec::new();
    }

    pub fn wants_flush(&self) -> bool {
        self.established && !self.dead && !self.gathered.is_empty()
    }

    pub fn start_clock(&mut self, deadline: Millis) {
        self.deadline.get_or_insert(deadline);
    }

    pub fn handshake_deadline(&self) -> Option<Millis> {
        if self.established {
            None
        } else {
            self.deadline
        }
    }

    /// Whether there is something to deliver that the kernel does not know of.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty() || self.ending.is_some()
    }

    /// What was opened earlier and is due next.
    fn next(&mut self, buffer: &mut [u8]) -> Option<Received> {
        if !self.unread.is_empty() {
            let n = self.unread.len().min(buffer.len());
            buffer[..n].copy_from_slice(&self.unread[..n]);
            self.unread.drain(..n);
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
            let more = self.has_unread();
            return Some(Received::Data { n, more });
        }
        match self.ending.take()? {
            Ending::CloseNotify => Some(Received::Fin),
            Ending::Broken(error) => Some(Received::Broken(error)),
        }
    }

    /// Opens ciphertext. What does not fit into `buffer` stays for `next`.
    fn open(
        &mut self,
        ciphertext: &mut [u8],
        plaintext: &mut Vec<u8>,
        buffer: &mut [u8],
    ) -> Received {
        plaintext.clear();
        let mut established = false;
        match self.session.feed(ciphertext, plaintext) {
            Ok(fed) => {
                established = fed.established;
                if fed.peer_closed {
                    self.ending = Some(Ending::CloseNotify);
                }
            }
            Err(error) => {
                self.dead = true;
                self.gathered = Vec::new();
                self.ending = Some(Ending::Broken(error));
            }
        }
        if established {
            self.established = true;
            self.unread.extend_from_slice(plaintext);
            return Received::Established;
        }
        let n = plaintext.len().min(buffer.len());
        if n == 0 {
            return self.next(buffer).unwrap_or(Received::Nothing);
        }
        buffer[..n].copy_from_slice(&plaintext[..n]);
        self.unread.extend_from_slice(&plaintext[n..]);
        let more = self.has_unread();
        Received::Data { n, more }
    }

    /// Puts what the session has to say by itself, and what was gathered, into the queue.
    fn seal(&mut self, queue: &mut SendQueue) {
        if !self.started {
            return;
        }
        queue.append(|out| self.session.take_output(out));
        if !self.established || self.dead || self.gathered.is_empty() {
            return;
        }
        let gathered = std::mem::take(&mut self.gathered);
        self.seal_now(&gathered, queue);
    }

    fn seal_now(&mut self, data: &[u8], queue: &mut SendQueue) {
        self.sealed += data.len() as u64;
        if let Err(error) = queue.append(|out| self.session.seal(data, out)) {
            self.dead = true;
            self.ending = Some(Ending::Broken(error));
        }
    }

    /// Says goodbye, once, behind everything that was accepted. False while it cannot yet.
    fn notify(&mut self, queue: &mut SendQueue) -> bool {
        if self.dead {
            return true;
        }
        if !self.established {
            return false;
        }
        if !self.notified {
            self.notified = true;
            queue.append(|out| self.session.close_notify(out));
        }
        true
    }
}

impl Stream {
    /// From now on everything goes through a TLS session; what was accepted before leaves in clear.
    pub fn secure_with(&mut self, session: Session) {
        self.secure = Some(Box::new(Secure::new(session)));
        self.bytes_read = 0;
    }

    pub fn begin_handshake(&mut self) {
        if let Some(secure) = &mut self.secure {
            secure.started = true;
            self.send_queue();
        }
    }

    pub fn secure(&mut self) -> Option<&mut Secure> {
        self.secure.as_deref_mut()
    }

    pub fn is_handshaking(&self) -> bool {
        self.secure
            .as_ref()
            .is_some_and(|secure| !secure.established)
    }

    pub fn has_unread(&self) -> bool {
        self.secure
            .as_ref()
            .is_some_and(|secure| secure.has_unread())
    }

    /// Ciphertext that somebody else has read already.
    pub fn open_early(&mut self, mut initial: Vec<u8>, scratch: &mut Scratch) -> Received {
        let Some(secure) = &mut self.secure else {
            return Received::Nothing;
        };
        let received = secure.open(&mut initial, &mut scratch.plaintext, &mut []);
        self.send_queue();
        received
    }

    pub(super) fn receive_secure(&mut self, buffer: &mut [u8], scratch: &mut Scratch) -> Received {
        let (Some(secure), Some(fd)) = (&mut self.secure, &self.fd) else {
            return Received::Nothing;
        };
        if let Some(next) = secure.next(buffer) {
            return next;
        }
        if secure.dead {
            return Received::Nothing;
        }
        let received = match net::recv(fd.as_fd(), &mut scratch.ciphertext) {
            Ok(0) => {
                if let Some(errno) = self.broken.take() {
                    return Received::Failed(io::Error::from_raw_os_error(errno));
                }
                secure.dead = true;
                return Received::Broken(TlsError::Truncated);
            }
            Ok(n) => secure.open(&mut scratch.ciphertext[..n], &mut scratch.plaintext, buffer),
            Err(error) if would_block(&error) => return Received::Nothing,
            Err(error) => return Received::Failed(error),
        };
        self.active = true;
        if secure.session.has_output() {
            self.send_queue();
        }
        received
    }

    /// Gathers what fits; it is sealed when the turn or the cork ends, or enough has come together.
    pub(super) fn write_secure(&mut self, data: &[u8]) -> Written {
        let mut taken = 0;
        while taken < data.len() {
            let Some(secure) = &mut self.secure else {
                return Written::Closed;
            };
            if !secure.established || !self.queue.is_empty() {
                self.drain_owed = true;
                break;
            }
            let n = (CORK_SIZE - secure.gathered.len()).min(data.len() - taken);
            if n == 0 || (n == CORK_SIZE && secure.gathered.is_empty()) {
                // A full load needs no gathering.
                let direct = &data[taken..taken + n];
                if n > 0 {
                    secure.seal_now(direct, &mut self.queue);
                }
                self.send_queue();
                if self.broken.is_some() {
                    return Written::Closed;
                }
            } else {
                secure.gathered.extend_from_slice(&data[taken..taken + n]);
            }
            taken += n;
        }
        Written::Accepted(taken)
    }

    /// Takes everything, whatever the kernel says.
    pub(super) fn accept_secure(&mut self, data: &[u8]) {
        for piece in data.chunks(CORK_SIZE) {
            let Some(secure) = &mut self.secure else {
                return;
            };
            secure.gathered.extend_from_slice(piece);
            if secure.established && secure.gathered.len() >= CORK_SIZE {
                self.send_queue();
            }
        }
    }

    /// Seals what is gathered, and our goodbye where it is due. False if the FIN has to wait.
    pub(super) fn seal(&mut self) -> bool {
        let Some(secure) = &mut self.secure else {
            return true;
        };
        secure.seal(&mut self.queue);
        !self.state.owes_fin() || secure.notify(&mut self.queue)
    }
}

//! The TLS side of a connection: what is not sealed yet, what is not delivered yet.

use std::io;
use std::os::fd::AsFd;

use super::{CORK_SIZE, Received, Stream, Written, would_block};
use crate::buffer::SendQueue;
use crate::engine::Facts;
use crate::sys::{net, prefetch};
use crate::timers::Millis;
use crate::tls::{Authorization, Session, TlsError};

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

/// Who opens and seals.
pub enum Driver {
    /// The engine, with a session of its own.
    Native(Session),
    /// The owner of the connection, with a session that the engine knows nothing of: it is handed
    /// ciphertext (`Received::Ciphertext`), asked for sealed bytes (`wants_pump`), and tells with
    /// `pumped` what came of both.
    Foreign,
}

/// What a foreign driver made of what it was given.
#[derive(Default, Debug)]
pub struct Pumped<'a> {
    pub plaintext: &'a [u8],
    pub output: &'a [u8],
    pub established: bool,
    pub peer_closed: bool,
    pub broken: bool,
}

/// What a foreign driver is to seal next, and whether it is to say goodbye behind it.
#[derive(Default, Debug)]
pub struct Outgoing {
    pub plaintext: Vec<u8>,
    pub finish: bool,
}

/// How the peer's side of a session ended.
enum Ending {
    CloseNotify,
    Broken(TlsError),
}

#[allow(clippy::struct_excessive_bools)]
pub struct Secure {
    driver: Driver,
    /// The handshake may begin; before that, its settings can still be changed.
    started: bool,
    established: bool,
    /// The owner has closed the connection before the handshake was done.
    closing: bool,
    /// The owner has not been told yet that it is established.
    news: bool,
    /// A foreign driver has something to do.
    wants_pump: bool,
    /// It was told so and has not come yet.
    asked: bool,
    /// It is to say goodbye.
    wants_notify: bool,
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
    pub fn new(driver: Driver) -> Self {
        Self {
            driver,
            started: false,
            established: false,
            closing: false,
            news: false,
            wants_pump: false,
            asked: false,
            wants_notify: false,
            notified: false,
            dead: false,
            gathered: Vec::new(),
            unread: Vec::new(),
            ending: None,
            deadline: None,
            sealed: 0,
        }
    }

    pub fn session(&mut self) -> Option<&mut Session> {
        match &mut self.driver {
            Driver::Native(session) => Some(session),
            Driver::Foreign => None,
        }
    }

    /// Takes another session instead, as long as nothing was sent. False if it is too late.
    pub fn replace(&mut self, session: Session) -> bool {
        if !self.started {
            self.driver = Driver::Native(session);
        }
        !self.started
    }

    pub fn facts(&mut self) -> Option<Facts> {
        let session = self.session()?;
        Some(Facts {
            authorized: session.authorization() == Authorization::Passed,
            alpn: session.alpn().map(<[u8]>::to_vec),
        })
    }

    /// Whether a foreign driver is to be told that it has something to do.
    pub fn take_pump(&mut self) -> bool {
        let due = self.wants_pump && !self.asked;
        self.asked |= due;
        due
    }

    pub fn take_outgoing(&mut self) -> Outgoing {
        self.asked = false;
        self.wants_pump = false;
        if !self.established {
            return Outgoing::default();
        }
        let plaintext = std::mem::take(&mut self.gathered);
        self.sealed += plaintext.len() as u64;
        let finish = std::mem::take(&mut self.wants_notify);
        self.notified |= finish;
        Outgoing { plaintext, finish }
    }

    fn pumped(&mut self, pumped: &Pumped<'_>, queue: &mut SendQueue) {
        queue.push(pumped.output);
        self.unread.extend_from_slice(pumped.plaintext);
        if pumped.established && !self.established {
            self.established = true;
            self.news = true;
            self.wants_pump |= !self.gathered.is_empty();
        }
        if pumped.broken {
            self.break_off(TlsError::Foreign);
        } else if pumped.peer_closed {
            self.ending = Some(Ending::CloseNotify);
        }
    }

    fn break_off(&mut self, error: TlsError) {
        self.dead = true;
        self.gathered = Vec::new();
        self.ending = Some(Ending::Broken(error));
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
        self.established && !self.dead && !self.gathered.is_empty() && !self.asked
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
        self.news || !self.unread.is_empty() || self.ending.is_some()
    }

    /// What was opened earlier and is due next.
    fn next(&mut self, buffer: &mut [u8]) -> Option<Received> {
        if std::mem::take(&mut self.news) {
            return Some(Received::Established);
        }
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

    /// Opens ciphertext into `plaintext`.
    fn open(&mut self, ciphertext: &mut [u8], plaintext: &mut Vec<u8>) {
        plaintext.clear();
        let Driver::Native(session) = &mut self.driver else {
            return;
        };
        match session.feed(ciphertext, plaintext) {
            Ok(fed) => {
                self.established |= fed.established;
                self.news |= fed.established;
                if fed.peer_closed {
                    self.ending = Some(Ending::CloseNotify);
                }
            }
            Err(error) => self.break_off(error),
        }
    }

    /// Hands over what was just opened; what is not due yet or does not fit stays for `next`.
    fn deliver(&mut self, plaintext: &[u8], buffer: &mut [u8]) -> Received {
        let fits = if self.news {
            0
        } else {
            plaintext.len().min(buffer.len())
        };
        self.unread.extend_from_slice(&plaintext[fits..]);
        if fits == 0 {
            return self.next(buffer).unwrap_or(Received::Nothing);
        }
        buffer[..fits].copy_from_slice(&plaintext[..fits]);
        let more = self.has_unread();
        Received::Data { n: fits, more }
    }

    /// Puts what the session has to say by itself, and what was gathered, into the queue.
    fn seal(&mut self, queue: &mut SendQueue) {
        if !self.started {
            return;
        }
        if let Driver::Native(session) = &mut self.driver {
            queue.append(|out| session.take_output(out));
        }
        if !self.established || self.dead || self.gathered.is_empty() {
            return;
        }
        if let Driver::Foreign = self.driver {
            self.wants_pump = true;
            return;
        }
        let gathered = std::mem::take(&mut self.gathered);
        self.seal_now(&gathered, queue);
    }

    fn seal_now(&mut self, data: &[u8], queue: &mut SendQueue) {
        let Driver::Native(session) = &mut self.driver else {
            return self.gathered.extend_from_slice(data);
        };
        self.sealed += data.len() as u64;
        if let Err(error) = queue.append(|out| session.seal(data, out)) {
            self.break_off(error);
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
        if self.notified {
            return true;
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
        self.bytes_read = 0;
        // What held back the plain socket is nothing that the TLS socket could undo.
        self.corks = 0;
        self.drain_owed = false;
        self.set_paused(false);
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
            secure.gathered = Vec::new();
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

    /// What a foreign driver has done.
    pub fn pumped(&mut self, pumped: &Pumped<'_>) {
        if let Some(secure) = &mut self.secure {
            secure.pumped(pumped, &mut self.queue);
            self.send_queue();
        }
    }

    pub fn secure(&mut self) -> Option<&mut Secure> {
        self.secure.as_deref_mut()
    }

    pub fn can_restart(&self) -> bool {
        self.state.is_open() && self.secure.as_ref().is_some_and(|secure| !secure.started)
    }

    pub fn is_secure(&self) -> bool {
        self.secure.is_some()
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
    pub fn open_early(&mut self, mut initial: Vec<u8>) {
        if let Some(secure) = &mut self.secure {
            let mut plaintext = Vec::new();
            secure.open(&mut initial, &mut plaintext);
            secure.unread.append(&mut plaintext);
            self.send_queue();
        }
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
        let foreign = matches!(secure.driver, Driver::Foreign);
        let target = if foreign {
            &mut *buffer
        } else {
            &mut scratch.ciphertext
        };
        let n = match net::recv(fd.as_fd(), target) {
            Ok(0) => {
                if let Some(errno) = self.broken.take() {
                    return Received::Failed(io::Error::from_raw_os_error(errno));
                }
                secure.dead = true;
                return Received::Broken(TlsError::Truncated);
            }
            Ok(n) => n,
            Err(error) if would_block(&error) => return Received::Nothing,
            Err(error) => return Received::Failed(error),
        };
        self.active = true;
        if foreign {
            return Received::Ciphertext(n);
        }
        secure.open(&mut scratch.ciphertext[..n], &mut scratch.plaintext);
        let received = secure.deliver(&scratch.plaintext, buffer);
        if secure.session().is_some_and(|session| session.has_output()) {
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
            let n = CORK_SIZE
                .saturating_sub(secure.gathered.len())
                .min(data.len() - taken);
            if n == 0 && matches!(secure.driver, Driver::Foreign) {
                self.drain_owed = true;
                break;
            }
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
        if self.hung {
            // The connection is gone; sending is how to learn that.
            self.send_queue();
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
        if !secure.gathered.is_empty() && !secure.dead {
            return false;
        }
        !self.state.owes_fin() || secure.notify(&mut self.queue)
    }
}

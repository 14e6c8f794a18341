//! The TLS side of a connection: what is not sealed yet, what is not delivered yet.

use std::io::IoSlice;

use super::CORK_SIZE;
use crate::engine::Facts;
use crate::timers::Millis;
use crate::tls::{Authorization, Session, TlsError};

mod files;
mod opening;
mod sealing;
mod traffic;

use files::Files;

/// What all connections of an engine read ciphertext into.
pub struct Scratch {
    ciphertext: Vec<u8>,
}

/// Ciphertext per read.
const CIPHERTEXT_SIZE: usize = 128 * 1024;
/// The same where a foreign driver gets it, in an object of its own: larger ones would have the
/// allocator map memory anew for each.
const FOREIGN_SIZE: usize = 64 * 1024;

impl Default for Scratch {
    fn default() -> Self {
        Self {
            ciphertext: vec![0; CIPHERTEXT_SIZE],
        }
    }
}

impl Scratch {
    /// Room for whoever reads meanwhile.
    pub fn memory(&mut self) -> &mut [u8] {
        &mut self.ciphertext
    }
}

/// What OpenSSL may have said by itself, and the peer has not taken. It answers each `KeyUpdate`, and
/// each wish to renegotiate with an alert, without end; nobody in good faith wants more than a
/// handshake's certificates.
const MOST_UNASKED: u32 = 128 * 1024;

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
#[allow(clippy::struct_excessive_bools)]
#[derive(Default, Debug)]
pub struct Pumped<'a> {
    pub plaintext: &'a [u8],
    /// What is to be sent, in pieces.
    pub output: &'a [IoSlice<'a>],
    pub established: bool,
    /// Something that it was to seal has to wait until the peer has sent more.
    pub stalled: bool,
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
    /// It cannot seal what it was given before the peer has sent more.
    stalled: bool,
    /// It is to say goodbye.
    wants_notify: bool,
    /// Our `close_notify` is on its way.
    notified: bool,
    /// The session broke: nothing can be sealed or opened any more.
    dead: bool,
    /// Accepted and not sealed yet.
    gathered: Vec<u8>,
    /// Files whose turn comes when that is sealed, and what was accepted behind them.
    files: Option<Box<Files>>,
    /// Opened and not delivered yet; empty almost always.
    unread: Vec<u8>,
    ending: Option<Ending>,
    /// The peer has said goodbye.
    pub peer_closed: bool,
    /// Bytes in the queue that a foreign driver said by itself since it was established.
    unasked: u32,
    /// Until when the handshake must be done, once the clock was asked.
    deadline: Option<Millis>,
    /// Bytes of the application that were sealed.
    pub sealed: u64,
    /// How many of them are in the queue or beyond it, and where the last one is in what is sent.
    queued: u64,
    pub sealed_until: u64,
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
            stalled: false,
            wants_notify: false,
            notified: false,
            dead: false,
            gathered: Vec::new(),
            files: None,
            unread: Vec::new(),
            ending: None,
            peer_closed: false,
            unasked: 0,
            deadline: None,
            sealed: 0,
            queued: 0,
            sealed_until: 0,
        }
    }

    /// What was sealed is in the queue, which reaches so far.
    fn note_queued(&mut self, end: u64) {
        if self.queued != self.sealed {
            self.queued = self.sealed;
            self.sealed_until = end;
        }
    }

    pub fn session(&mut self) -> Option<&mut Session> {
        match &mut self.driver {
            Driver::Native(session) => Some(session),
            Driver::Foreign => None,
        }
    }

    pub fn take_session(&mut self) -> Option<Session> {
        match std::mem::replace(&mut self.driver, Driver::Foreign) {
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

    /// From now on the engine drives: the session was established outside.
    fn adopt(&mut self, session: Session) {
        self.driver = Driver::Native(session);
        self.wants_pump = false;
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

    fn pumped(&mut self, pumped: &Pumped<'_>, keeps_plaintext: bool) {
        if keeps_plaintext {
            self.unread.extend_from_slice(pumped.plaintext);
        }
        self.stalled = pumped.stalled;
        if pumped.established && !self.established {
            self.established = true;
            self.news = true;
            self.wants_pump |= matches!(self.driver, Driver::Foreign) && !self.gathered.is_empty();
        }
        if pumped.broken {
            self.break_off(TlsError::Foreign);
        } else if pumped.peer_closed {
            self.peer_closed = true;
            self.ending = Some(Ending::CloseNotify);
        }
    }

    /// Counts what a foreign driver said where nothing was to be sealed, as long as that waits behind
    /// what the peer has not taken. Too much of it ends the session.
    fn note_unasked(&mut self, len: usize, waits: bool) {
        let counts = waits && self.established && self.queued == self.sealed;
        self.unasked = match u32::try_from(len) {
            Ok(len) if counts => self.unasked.saturating_add(len),
            _ if waits => self.unasked,
            _ => 0,
        };
        if self.unasked > MOST_UNASKED && !self.dead {
            let reason = "the peer has TLS answer without end, and reads nothing of it";
            self.break_off(TlsError::Protocol(reason.into()));
        }
    }

    fn break_off(&mut self, error: TlsError) {
        self.dead = true;
        self.forget_gathered();
        self.ending = Some(Ending::Broken(error));
    }

    /// What the session broke of, if the owner has not heard of it.
    pub fn untold_error(&self) -> Option<TlsError> {
        match &self.ending {
            Some(Ending::Broken(error)) => Some(error.clone()),
            _ => None,
        }
    }

    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether nothing but data passes, and none of it waits to be sealed.
    pub fn is_settled(&self) -> bool {
        let begins = !self.established || self.news;
        let waits =
            self.wants_pump || self.stalled || !self.gathered.is_empty() || self.files.is_some();
        let ends = self.dead || self.wants_notify || self.notified || self.peer_closed;
        !begins && !waits && !ends && self.ending.is_none()
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

    /// It is established, and the owner is still to hear of that.
    pub fn has_news(&self) -> bool {
        self.news
    }

    /// Puts off the news that it is established: the owner is busy.
    pub fn keep_news(&mut self) {
        self.news = true;
    }

    /// The owner has not been told yet that the session stands.
    pub fn opens_first(&self) -> bool {
        !self.established || self.news
    }

    pub fn is_foreign(&self) -> bool {
        matches!(self.driver, Driver::Foreign)
    }
}

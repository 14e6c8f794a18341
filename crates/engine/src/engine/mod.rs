//! The members of one thread's engine, and everything that can be asked of them by token.
//!
//! One turn of its driver: `begin_turn`, `poll` the readiness queue, then for each event `on_ready`
//! and reads or accepts; behind them `expire`, and at the end `take_notice` until nothing is left.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::connect::Attempt;
use crate::error::CloseReason;
use crate::gate::Guest;
use crate::greeting::{Greeting, ProxyError};
use crate::listener::Listener;
use crate::poller::Poller;
use crate::slots::Slots;
use crate::stream::{Endpoints, Scratch, Stream};
use crate::timers::{Millis, Timers};
use crate::tls::{Session, TlsError};
use crate::token::Token;

/// Late input swallowed per turn from a connection that its owner has closed.
const DISCARD_BUDGET: usize = 512 * 1024;

mod admission;
mod attempts;
mod deadlines;
mod events;
mod figures;
mod greetings;
mod members;
mod operations;
mod outbox;
mod packets;
mod parting;
mod pipe;
mod secure;
mod settle;
mod splicing;

pub use figures::Traffic;
use outbox::Outbox;
use pipe::Pipes;
pub use pipe::Unpipable;

// By far the most are streams: a box around them would only cost.
#[allow(clippy::large_enum_variant)]
enum Member {
    Stream(Stream),
    Listener(Listener),
    Attempt(Attempt),
    Greeting(Greeting),
}

/// Where in a turn its driver is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Between,
    /// Events are handled: short steps, for which the turn's beginning is the present.
    Events,
    /// Whatever else the driver runs, which may take its time. What it writes is still gathered.
    Callbacks,
}

impl Phase {
    /// Whether what is written to this stream now leaves when the event or the turn ends. Whoever
    /// writes to a socket outside of its handlers may go on to something long.
    fn gathers(self, stream: &Stream) -> bool {
        match self {
            Self::Between => false,
            Self::Events => true,
            Self::Callbacks => stream.is_transport(),
        }
    }
}

/// So much plaintext is sealed right behind the event that brought it, less at the end of the turn.
const SEALED_AT_ONCE: usize = 4 * 1024;

/// What an event is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Stream {
        readable: bool,
        drained: bool,
    },
    /// The connection broke while its owner is busy.
    Lost,
    Listener,
    /// A stale event, or one that the engine has dealt with.
    Nothing,
}

/// What reading found for the owner.
#[derive(Debug)]
pub enum Read {
    /// So many bytes at the front of the buffer; with `more`, there is more to read.
    Data {
        n: usize,
        more: bool,
    },
    /// The peer's FIN; to be followed by `end_handled`.
    End,
    Nothing,
    /// The TLS handshake is done; there may be more to read behind it.
    Established,
    /// So many bytes at the front of the buffer for the owner's driver of TLS, to be followed by
    /// `pumped`; with `more`, there may be more behind them.
    Ciphertext {
        n: usize,
        more: bool,
    },
    /// An established TLS session broke. The owner is to close the connection.
    Broken(TlsError),
}

/// What the owner has to be told between events.
#[derive(Debug)]
pub enum Notice {
    Closed(Token, CloseReason),
    /// The attempt can be claimed.
    Connected(Token),
    /// The attempt is gone: it failed, or it took too long if there is no error.
    NotConnected(Token, Option<io::Error>),
    /// The accepted connection may be let in, or is to be turned away.
    Greeted(Token, Result<(), ProxyError>),
    /// The idle timeout went off.
    Idle(Token),
    /// Something was read that the kernel will not report again.
    Unread(Token),
    /// The owner's driver of TLS is to take `outgoing`, and to be followed by `pumped`.
    Pump(Token),
}

/// What is still of interest about a TLS session that is gone.
#[derive(Clone, Debug)]
pub struct Facts {
    pub authorized: bool,
    pub alpn: Option<Vec<u8>>,
}

/// What is still of interest about a connection that is gone.
#[derive(Default)]
pub struct Farewell {
    pub endpoints: Endpoints,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Bytes that went over the wire.
    pub sent: u64,
    pub facts: Option<Facts>,
    /// Of a transport, which may still be asked what was agreed on.
    pub session: Option<Box<Session>>,
}

pub struct Engine {
    poller: Arc<Poller>,
    members: Slots<Member>,
    timers: Timers,
    notices: VecDeque<Notice>,
    /// Members whose interest changed during the turn; the kernel is told once, before the next.
    dirty: Vec<Token>,
    phase: Phase,
    /// Members and others that keep the loop running.
    references: usize,
    /// Attempts that were connected at once since the last turn began.
    connected_at_once: usize,
    /// Listeners out of descriptors.
    resting: Vec<Token>,
    /// Connections that count for a limit, each with its listener.
    guests: HashMap<Token, (Token, Guest)>,
    /// Whoever waits on the queue's descriptor is woken by its alarm.
    watched_from_outside: bool,
    /// Events were left to the next turn.
    left_over: bool,
    /// Waits that have not told of everything, one after the other.
    partial_waits: usize,
    alarm: Option<Millis>,
    scratch: Scratch,
    outbox: Outbox,
    pipes: Pipes,
    /// Whose members they are; a forked child has but copies.
    process: u32,
}

impl Engine {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Arc::new(Poller::new()?),
            members: Slots::default(),
            timers: Timers::new(),
            notices: VecDeque::new(),
            dirty: Vec::new(),
            phase: Phase::Between,
            references: 0,
            connected_at_once: 0,
            resting: Vec::new(),
            guests: HashMap::new(),
            watched_from_outside: false,
            left_over: false,
            partial_waits: 0,
            alarm: None,
            scratch: Scratch::default(),
            outbox: Outbox::default(),
            pipes: Pipes::default(),
            process: std::process::id(),
        })
    }

    pub fn poller(&self) -> &Arc<Poller> {
        &self.poller
    }

    /// From now on the queue's own descriptor becomes readable whenever a turn is due.
    pub fn watch_from_outside(&mut self) {
        self.watched_from_outside = true;
    }

    /// Events have come, or a deadline has: `expire` is for that, behind the events.
    pub fn begin_turn(&mut self) {
        self.phase = Phase::Events;
        self.connected_at_once = 0;
        self.left_over = false;
        self.timers.refresh();
    }

    /// The rest of the events is for the next turn. Of those that are reported once the queue will
    /// not say again that they are due.
    pub fn leave_events(&mut self) {
        self.left_over = true;
    }

    /// The events are handled; what else is to be done in this turn comes now.
    pub fn begin_callbacks(&mut self) {
        self.sync_dirty();
        self.phase = Phase::Callbacks;
    }

    pub fn end_turn(&mut self) {
        self.phase = Phase::Between;
        self.sync_dirty();
        self.set_alarm();
    }

    /// Tells the kernel of the interests that changed.
    #[inline]
    pub fn sync_dirty(&mut self) {
        self.send_outbox();
        if !self.dirty.is_empty() {
            self.sync_all();
        }
    }

    fn sync_all(&mut self) {
        let mut index = 0;
        while let Some(&token) = self.dirty.get(index) {
            index += 1;
            if let Some(&next) = self.dirty.get(index)
                && let Some(stream) = self.stream(next)
            {
                stream.prefetch_secure();
            }
            if let Some(Member::Stream(stream)) = self.members.get_mut(token) {
                stream.dirty = false;
                if stream.wants_flush() {
                    stream.send_queue();
                    if stream.is_settled() {
                        continue;
                    }
                    self.settle(token);
                }
                self.sync(token);
            }
        }
        self.dirty.clear();
    }

    /// Takes the notice that came last, if it is of a pump with much to seal: that is best done
    /// before others have gathered as much. Little costs the peers less if it leaves together.
    #[inline]
    pub fn take_pump(&mut self) -> Option<Token> {
        let Some(&Notice::Pump(token)) = self.notices.back() else {
            return None;
        };
        let secure = self.stream_mut(token).and_then(Stream::secure)?;
        if secure.gathered() < SEALED_AT_ONCE {
            return None;
        }
        self.notices.pop_back();
        Some(token)
    }

    /// Takes the notice that is due next, if it is of a pump.
    pub fn take_next_pump(&mut self) -> Option<Token> {
        let Some(&Notice::Pump(token)) = self.notices.front() else {
            return None;
        };
        self.notices.pop_front();
        Some(token)
    }

    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Takes the notice that this connection is closed, ahead of its turn.
    pub fn take_end(&mut self, token: Token) -> Option<CloseReason> {
        let is_end =
            |notice: &Notice| matches!(notice, Notice::Closed(member, _) if *member == token);
        let index = self.notices.iter().position(is_end)?;
        match self.notices.remove(index) {
            Some(Notice::Closed(_, reason)) => Some(reason),
            _ => None,
        }
    }

    pub fn notices(&self) -> usize {
        self.notices.len()
    }

    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// How long a turn may wait for events.
    pub fn patience(&self) -> Option<Duration> {
        if self.has_notices() {
            return Some(Duration::ZERO);
        }
        self.timers.next_due().map(|due| self.timers.until(due))
    }

    /// A turn's end will draw the conclusions.
    fn in_turn(&self) -> bool {
        self.phase != Phase::Between
    }

    /// Whether what is written to this stream now leaves when the event or the turn ends.
    fn gathers(&self, stream: &Stream) -> bool {
        self.phase.gathers(stream)
    }

    /// Now, as precisely as a turn needs it.
    fn present(&mut self) -> Millis {
        if self.phase == Phase::Events {
            self.timers.now()
        } else {
            self.timers.refresh()
        }
    }

    fn set_alarm(&mut self) {
        if !self.watched_from_outside {
            return;
        }
        let due = if self.has_notices() || self.left_over {
            Some(0)
        } else {
            self.timers.next_due()
        };
        // One that is due at once may have rung already, in the turn that is just ending.
        if due != self.alarm || due == Some(0) {
            self.alarm = due;
            let delay = due.map(|due| self.timers.until(due));
            if self.poller.set_alarm(delay).is_err() {
                // No reason for that is known. Rather than never, there is a turn now, and another try.
                self.alarm = None;
                let _ = self.poller.wake();
            }
        }
    }
}

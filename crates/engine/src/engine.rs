//! The members of one thread's engine, and everything that can be asked of them by token.
//!
//! One turn of its driver: `begin_turn`, `poll` the readiness queue, then for each event `on_ready`
//! and reads or accepts; at the end `take_notice` until nothing is left.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use crate::connect::Attempt;
use crate::error::{CloseReason, WriteAllError};
use crate::listener::{Accepted, Acceptor, Listener, STARVED_RETRY};
use crate::poller::{Interest, Poller, Ready};
use crate::slots::Slots;
use crate::state::{Input, ReadyState};
use crate::stream::{
    self, Driver, Endpoints, Outgoing, Pumped, Received, Scratch, Secure, Settings, Stream, Written,
};
use crate::sys::net;
use crate::timers::{Millis, Timers};
use crate::tls::{Session, TlsError};
use crate::token::Token;

/// Late input swallowed per turn from a connection that its owner has closed.
const DISCARD_BUDGET: usize = 512 * 1024;

enum Member {
    Stream(Stream),
    Listener(Listener),
    Attempt(Attempt),
}

/// What an event is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Stream {
        readable: bool,
        drained: bool,
    },
    Listener,
    Attempt,
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
    /// `pumped`.
    Ciphertext(usize),
    /// An established TLS session broke. The owner is to close the connection.
    Broken(TlsError),
}

/// What the owner has to be told between events.
#[derive(Debug)]
pub enum Notice {
    Closed(Token, CloseReason),
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
#[derive(Clone, Default, Debug)]
pub struct Farewell {
    pub endpoints: Endpoints,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Bytes that went over the wire.
    pub sent: u64,
    pub facts: Option<Facts>,
}

pub struct Engine {
    poller: Arc<Poller>,
    members: Slots<Member>,
    timers: Timers,
    notices: VecDeque<Notice>,
    /// Members whose interest changed during the turn; the kernel is told once, before the next.
    dirty: Vec<Token>,
    in_turn: bool,
    /// Members and others that keep the loop running.
    references: usize,
    /// Listeners out of descriptors.
    resting: Vec<Token>,
    /// Whoever waits on the queue's descriptor is woken by its alarm.
    watched_from_outside: bool,
    alarm: Option<Millis>,
    scratch: Scratch,
}

impl Engine {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Arc::new(Poller::new()?),
            members: Slots::default(),
            timers: Timers::new(),
            notices: VecDeque::new(),
            dirty: Vec::new(),
            in_turn: false,
            references: 0,
            resting: Vec::new(),
            watched_from_outside: false,
            alarm: None,
            scratch: Scratch::default(),
        })
    }

    pub fn poller(&self) -> &Arc<Poller> {
        &self.poller
    }

    /// From now on the queue's own descriptor becomes readable whenever a turn is due.
    pub fn watch_from_outside(&mut self) {
        self.watched_from_outside = true;
    }

    // Turns

    /// Events have come, or a deadline has.
    pub fn begin_turn(&mut self) {
        self.in_turn = true;
        self.timers.refresh();
        self.expire();
    }

    pub fn end_turn(&mut self) {
        self.in_turn = false;
        self.sync_dirty();
        self.set_alarm();
    }

    /// Tells the kernel of the interests that changed.
    pub fn sync_dirty(&mut self) {
        while let Some(token) = self.dirty.pop() {
            if let Some(Member::Stream(stream)) = self.members.get_mut(token) {
                stream.dirty = false;
                if stream.wants_flush() {
                    stream.send_queue();
                    self.settle(token);
                }
                self.sync(token);
            }
        }
    }

    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
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

    fn expire(&mut self) {
        while let Some((at, token)) = self.timers.pop_due() {
            match self.members.get_mut(token) {
                Some(Member::Stream(stream)) if stream.armed == at => {
                    stream.armed = Millis::MAX;
                    self.on_deadline(token);
                }
                Some(Member::Listener(listener)) if listener.starved => self.wake_starved(),
                _ => {}
            }
        }
    }

    fn on_deadline(&mut self, token: Token) {
        let now = self.timers.now();
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        stream.deadline(now);
        if stream.close_deadline().is_some_and(|at| at < now) {
            if stream.state.is_lingering() {
                return self.close(token, false, CloseReason::Clean);
            }
            let late = CloseReason::TimedOut("the peer did not finish within close_timeout");
            let reason = stream.take_broken().map_or(late, CloseReason::Io);
            return self.close(token, true, reason);
        }
        if stream.handshake_deadline().is_some_and(|at| at < now) {
            return self.close(token, false, CloseReason::HandshakeTimedOut);
        }
        if stream.idle_deadline().is_some_and(|at| at < now) {
            stream.restart_idle();
            self.notices.push_back(Notice::Idle(token));
        }
        self.settle(token);
    }

    fn set_alarm(&mut self) {
        if !self.watched_from_outside {
            return;
        }
        let due = if self.has_notices() {
            Some(0)
        } else {
            self.timers.next_due()
        };
        // One that is due at once may have rung already, in the turn that is just ending.
        if due != self.alarm || due == Some(0) {
            self.alarm = due;
            // Only a bad descriptor fails here, and that one is ours.
            let _ = self.poller.set_alarm(due.map(|due| self.timers.until(due)));
        }
    }

    // Members

    fn add_stream(
        &mut self,
        fd: OwnedFd,
        remote: Option<SocketAddr>,
        settings: Arc<Settings>,
        driver: Option<Driver>,
    ) -> Result<Token, (OwnedFd, io::Error)> {
        let mut stream = Stream::new(fd, remote, settings);
        if let Some(driver) = driver {
            stream.secure_with(driver);
        }
        let token = self.members.insert(Member::Stream(stream));
        if let Err(error) = self.register(token)
            && let Some(Member::Stream(mut stream)) = self.members.remove(token)
            && let Some(fd) = stream.take_fd(false)
        {
            return Err((fd, error));
        }
        self.references += 1;
        self.arm(token);
        Ok(token)
    }

    /// Takes over a connected descriptor that came from elsewhere; on failure it is left alone.
    pub fn adopt(
        &mut self,
        fd: RawFd,
        settings: Arc<Settings>,
        driver: Option<Driver>,
    ) -> io::Result<Token> {
        let fd = net::own(fd)?;
        let remote = match stream::prepare(&fd, &settings) {
            Ok(remote) => remote,
            Err(error) => {
                net::disown(fd);
                return Err(error);
            }
        };
        self.add_stream(fd, remote, settings, driver)
            .map_err(|(fd, error)| {
                net::disown(fd);
                error
            })
    }

    /// Takes over a socket that is bound and listening; on failure it is left alone.
    pub fn add_listener(
        &mut self,
        fd: RawFd,
        defaults: Arc<Settings>,
        tls: Option<Acceptor>,
    ) -> io::Result<Token> {
        let fd = net::own(fd)?;
        if let Err(error) = Listener::prepare(&fd, &defaults) {
            net::disown(fd);
            return Err(error);
        }
        let token = self
            .members
            .insert(Member::Listener(Listener::new(fd, defaults, tls)));
        self.references += 1;
        if let Err(error) = self.register(token) {
            if let Some(Member::Listener(listener)) = self.members.remove(token) {
                net::disown(listener.fd);
            }
            self.references -= 1;
            return Err(error);
        }
        Ok(token)
    }

    pub fn add_attempt(&mut self, attempt: Attempt) -> io::Result<Token> {
        let token = self.members.insert(Member::Attempt(attempt));
        if let Err(error) = self.register(token) {
            self.members.remove(token);
            return Err(error);
        }
        Ok(token)
    }

    /// Asks the kernel what became of an attempt that it reported as ready. A failed one is gone.
    pub fn check_attempt(&mut self, token: Token) -> io::Result<()> {
        let Some(Member::Attempt(attempt)) = self.members.get_mut(token) else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        let outcome = attempt.outcome();
        if outcome.is_err() {
            self.members.remove(token);
            self.wake_starved();
            return outcome;
        }
        // It would be reported as writable without end until somebody claims it.
        let (fd, known) = (attempt.raw_fd(), attempt.known);
        attempt.known = Interest::NONE;
        self.poller.change(fd, token, known, Interest::NONE)
    }

    /// Turns a connected attempt into a stream, which keeps its token.
    pub fn establish(
        &mut self,
        token: Token,
        settings: Arc<Settings>,
        driver: Option<Driver>,
    ) -> io::Result<()> {
        let Some(Member::Attempt(_)) = self.members.get(token) else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        let Some(Member::Attempt(attempt)) = self.members.replace(token, None) else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        let (known, remote) = (attempt.known, attempt.remote);
        let fd = attempt.into_fd();
        let prepared = stream::apply_tcp_options(&fd, &settings);
        let mut stream = Stream::new(fd, remote, settings);
        stream.known = known;
        if let Some(driver) = driver {
            stream.secure_with(driver);
        }
        self.members.replace(token, Some(Member::Stream(stream)));
        if let Err(error) = prepared.and_then(|()| self.register(token)) {
            self.members.remove(token);
            return Err(error);
        }
        self.references += 1;
        self.arm(token);
        self.settle(token);
        Ok(())
    }

    pub fn cancel_attempt(&mut self, token: Token) {
        if let Some(Member::Attempt(_)) = self.members.get(token) {
            self.members.remove(token);
            self.wake_starved();
        }
    }

    /// Takes the member's last words; its slot is free as soon as its descriptor is.
    pub fn release(&mut self, token: Token) -> Farewell {
        let farewell = self.farewell(token);
        if let Some(stream) = self.stream_mut(token) {
            stream.released = true;
            if stream.state.is_closed() {
                self.members.remove(token);
            }
        }
        farewell
    }

    pub fn farewell(&mut self, token: Token) -> Farewell {
        let Some(stream) = self.stream_mut(token) else {
            return Farewell::default();
        };
        Farewell {
            endpoints: stream.endpoints(),
            bytes_read: stream.bytes_read,
            bytes_written: stream.bytes_written(),
            sent: stream.sent,
            facts: stream.secure().and_then(Secure::facts),
        }
    }

    /// Everything that is open, oldest slot first.
    pub fn tokens(&self) -> Vec<Token> {
        self.members.tokens()
    }

    /// Descriptors held, those that only linger included.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // Events

    pub fn on_ready(&mut self, token: Token, ready: Ready) -> Event {
        match self.members.get_mut(token) {
            Some(Member::Stream(_)) => self.on_stream_ready(token, ready),
            Some(Member::Listener(_)) => Event::Listener,
            Some(Member::Attempt(_)) => Event::Attempt,
            None => Event::Nothing,
        }
    }

    fn on_stream_ready(&mut self, token: Token, ready: Ready) -> Event {
        let Some(stream) = self.stream_mut(token) else {
            return Event::Nothing;
        };
        if ready.broken
            && let Some(error) = stream.on_hang_up()
        {
            self.close(token, false, CloseReason::Io(error));
            return Event::Nothing;
        }
        let mut drained = false;
        if ready.writable && stream.known.writable {
            stream.send_queue();
            drained = stream.take_drain();
            self.settle(token);
        } else if ready.broken {
            self.settle(token);
        }
        Event::Stream {
            readable: ready.readable,
            drained,
        }
    }

    /// Reads once. Input that nobody is to get is swallowed here.
    pub fn read(&mut self, token: Token, buffer: &mut [u8]) -> Read {
        let Some(Member::Stream(stream)) = self.members.get_mut(token) else {
            return Read::Nothing;
        };
        if !stream.state.wants_input() {
            return Read::Nothing;
        }
        let delivers = stream.state.delivers();
        match stream.receive(buffer, &mut self.scratch) {
            Received::Data { n, more } if delivers => {
                stream.bytes_read += n as u64;
                if stream.is_timed() {
                    self.settle(token);
                }
                Read::Data { n, more }
            }
            Received::Data { more, .. } => self.discard(token, more, buffer),
            other => self.on_received(token, other),
        }
    }

    fn discard(&mut self, token: Token, mut more: bool, buffer: &mut [u8]) -> Read {
        let mut left = DISCARD_BUDGET;
        while more && left > 0 {
            let Some(Member::Stream(stream)) = self.members.get_mut(token) else {
                return Read::Nothing;
            };
            match stream.receive(buffer, &mut self.scratch) {
                Received::Data { n, more: again } => {
                    more = again;
                    left = left.saturating_sub(n);
                }
                other => return self.on_received(token, other),
            }
        }
        self.settle(token);
        Read::Nothing
    }

    fn on_received(&mut self, token: Token, received: Received) -> Read {
        match received {
            Received::Data { .. } | Received::Nothing => Read::Nothing,
            Received::Fin => self.on_fin(token),
            Received::Failed(error) => {
                self.close(token, false, CloseReason::Io(error));
                Read::Nothing
            }
            Received::Ciphertext(n) => Read::Ciphertext(n),
            Received::Established => {
                self.settle(token);
                Read::Established
            }
            Received::Broken(error) => self.on_broken(token, error),
        }
    }

    /// The TLS session failed. If it was never established, neither was the connection: its owner
    /// is told at once, while the alert still goes out.
    fn on_broken(&mut self, token: Token, error: TlsError) -> Read {
        let Some(stream) = self.stream_mut(token) else {
            return Read::Nothing;
        };
        stream.send_queue();
        if !stream.is_handshaking() {
            self.settle(token);
            return Read::Broken(error);
        }
        self.tell(token, CloseReason::Tls(error));
        if let Some(stream) = self.stream_mut(token) {
            stream.apply(Input::Close);
        }
        self.settle(token);
        Read::Nothing
    }

    fn on_fin(&mut self, token: Token) -> Read {
        let Some(stream) = self.stream_mut(token) else {
            return Read::Nothing;
        };
        let open = stream.state.is_open();
        stream.state.apply(Input::PeerFin);
        if open {
            // The owner speaks first; its last words may go with our FIN.
            return Read::End;
        }
        self.settle(token);
        Read::Nothing
    }

    /// The owner has been told of the peer's FIN.
    pub fn end_handled(&mut self, token: Token) {
        self.with_stream(token, |stream| stream.apply(Input::EndHandled));
    }

    pub fn accept(&mut self, token: Token) -> Accepted {
        let Some(Member::Listener(listener)) = self.members.get_mut(token) else {
            return Accepted::Empty;
        };
        let defaults = Arc::clone(&listener.defaults);
        let tls = listener.tls.clone();
        match listener.accept() {
            Ok((fd, remote)) => {
                listener.starved = false;
                let driver = match tls.as_ref().map(Acceptor::driver).transpose() {
                    Ok(driver) => driver,
                    Err(error) => return Accepted::Failed(io::Error::other(error)),
                };
                self.add_stream(fd, remote, defaults, driver)
                    // It cannot be watched and is closed: the kernel is short of something.
                    .map_or_else(|(_, error)| self.rest(token, error), Accepted::Stream)
            }
            Err(Accepted::Starved(error, _)) => self.rest(token, error),
            Err(other) => other,
        }
    }

    /// Takes a listener out of the queue until descriptors are free.
    fn rest(&mut self, token: Token, shortage: io::Error) -> Accepted {
        let Some(Member::Listener(listener)) = self.members.get_mut(token) else {
            return Accepted::Empty;
        };
        let first = !std::mem::replace(&mut listener.starved, true);
        let (fd, known) = (listener.fd.as_raw_fd(), listener.known);
        listener.known = Interest::NONE;
        if let Err(error) = self.poller.change(fd, token, known, Interest::NONE) {
            return Accepted::Failed(error);
        }
        self.resting.push(token);
        let now = self.timers.now();
        self.timers.push(now + STARVED_RETRY, token);
        Accepted::Starved(shortage, first)
    }

    /// A descriptor may be free: listeners that ran out of them try again. They stay marked as
    /// starved until an accept succeeds, so that one shortage is reported once.
    fn wake_starved(&mut self) {
        while let Some(token) = self.resting.pop() {
            if self.register(token).is_err() {
                // The kernel is short of memory: the next deadline tries again.
                self.resting.push(token);
                let now = self.timers.now();
                return self.timers.push(now + STARVED_RETRY, token);
            }
        }
    }

    // Operations of the owner

    pub fn write(&mut self, token: Token, data: &[u8]) -> Written {
        match self.with_stream(token, |stream| stream.write(data)) {
            // TLS had gathered it, and sending it failed.
            Some(Written::Accepted(1..)) if self.broken(token).is_some() => Written::Closed,
            Some(written) => written,
            None => Written::Closed,
        }
    }

    pub fn write_all(&mut self, token: Token, data: &[u8]) -> Result<(), WriteAllError> {
        self.with_stream(token, |stream| stream.write_all(data))
            .unwrap_or(Err(WriteAllError::Closed))
    }

    pub fn end(&mut self, token: Token, data: &[u8]) -> Result<(), WriteAllError> {
        self.with_stream(token, |stream| stream.end(data))
            .unwrap_or(Err(WriteAllError::Closed))
    }

    // TLS

    /// Makes TLS of a connection that began in clear. `initial` is ciphertext that has arrived.
    pub fn secure(&mut self, token: Token, driver: Driver, initial: Vec<u8>) {
        self.with_stream(token, |stream| {
            stream.secure_with(driver);
            if !initial.is_empty() {
                stream.open_early(initial);
            }
        });
        self.remind(token);
    }

    /// New connections of a listener speak TLS with this configuration; open ones stay as they are.
    pub fn set_tls(&mut self, token: Token, tls: Option<Acceptor>) {
        if let Some(Member::Listener(listener)) = self.members.get_mut(token) {
            listener.tls = tls;
        }
    }

    pub fn session(&mut self, token: Token) -> Option<&mut Session> {
        self.stream_mut(token)?.secure()?.session()
    }

    /// Begins with another session instead. False if the handshake has begun.
    pub fn replace_session(&mut self, token: Token, session: Session) -> bool {
        let secure = self.stream_mut(token).and_then(Stream::secure);
        secure.is_some_and(|secure| secure.replace(session))
    }

    /// What the owner's driver is to seal.
    pub fn take_outgoing(&mut self, token: Token) -> Outgoing {
        let secure = self.stream_mut(token).and_then(Stream::secure);
        secure.map(Secure::take_outgoing).unwrap_or_default()
    }

    /// What came of ciphertext, or of `take_outgoing`.
    pub fn pumped(&mut self, token: Token, pumped: &Pumped<'_>) {
        if let Some(stream) = self.stream_mut(token)
            && !stream.state.is_closed()
        {
            stream.pumped(pumped);
            self.settle(token);
        }
    }

    /// Whether TLS can begin: both directions are open, and nothing is lost.
    pub fn can_upgrade(&self, token: Token) -> bool {
        self.stream(token).is_some_and(|stream| {
            stream.state.accepts_writes() && !stream.state.read_ended() && stream.broken().is_none()
        })
    }

    pub fn is_secure(&self, token: Token) -> bool {
        self.stream(token).is_some_and(Stream::is_secure)
    }

    pub fn is_handshaking(&self, token: Token) -> bool {
        self.stream(token).is_some_and(Stream::is_handshaking)
    }

    /// Reads again soon, whatever the kernel says.
    pub fn remind(&mut self, token: Token) {
        self.notices.push_back(Notice::Unread(token));
        if !self.in_turn {
            self.set_alarm();
        }
    }

    /// Sends the first bytes of a handshake, if it is ours to begin.
    pub fn begin_handshake(&mut self, token: Token) {
        self.with_stream(token, Stream::begin_handshake);
    }

    pub fn remind_if_unread(&mut self, token: Token) {
        if self.stream(token).is_some_and(Stream::has_unread) {
            self.remind(token);
        }
    }

    // Progress

    /// Asks for an event whenever bytes can be sent, or stops asking.
    pub fn watch_sends(&mut self, token: Token, watch: bool) {
        self.with_stream(token, |stream| stream.watch_sends = watch);
    }

    /// Bytes sent so far, and how many it will be when all that was accepted has been sent.
    pub fn progress(&mut self, token: Token) -> (u64, u64) {
        self.stream_mut(token).map_or((0, 0), |stream| {
            let goal = stream.goal();
            // Nothing is left: every goal is reached.
            let done = stream.queued() == 0 && stream.broken().is_none();
            (if done { u64::MAX } else { stream.sent }, goal)
        })
    }

    /// Why bytes that were accepted can no longer be sent.
    pub fn broken(&self, token: Token) -> Option<io::Error> {
        self.stream(token).and_then(Stream::broken)
    }

    pub fn cork(&mut self, token: Token) {
        self.with_stream(token, Stream::cork);
    }

    pub fn uncork(&mut self, token: Token) {
        self.with_stream(token, Stream::uncork);
    }

    pub fn flush(&mut self, token: Token) {
        self.with_stream(token, Stream::send_queue);
    }

    pub fn shutdown(&mut self, token: Token) {
        self.with_stream(token, |stream| stream.apply(Input::Shutdown));
    }

    pub fn stop_reading(&mut self, token: Token) {
        self.with_stream(token, |stream| stream.apply(Input::StopReading));
    }

    pub fn close_gracefully(&mut self, token: Token) {
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        if stream.is_handshaking() && !stream.abort_handshake() {
            return self.close(token, false, CloseReason::Clean);
        }
        self.with_stream(token, |stream| stream.apply(Input::Close));
    }

    /// Closes a connection that does not move: gracefully if nothing is left to send, else at once.
    pub fn close_stalled(&mut self, token: Token) {
        match self.stream(token).map(Stream::queued) {
            Some(0) => self.close_gracefully(token),
            Some(_) => self.terminate(token),
            None => {}
        }
    }

    pub fn terminate(&mut self, token: Token) {
        self.close(token, true, CloseReason::Clean);
    }

    /// The last moment of the engine: no time is left to send or to wait for the peer. Where our
    /// FIN is out already, late input must not turn the end into a RST.
    pub fn abandon(&mut self, token: Token, scratch: &mut [u8]) {
        let finished = self.stream(token).is_some_and(|s| s.state.fin_sent());
        if finished {
            if let Some(stream) = self.stream_mut(token) {
                stream.swallow(scratch);
            }
            self.close(token, false, CloseReason::Clean);
        } else {
            self.terminate(token);
        }
    }

    pub fn set_paused(&mut self, token: Token, paused: bool) {
        let unread = self.with_stream(token, |stream| {
            stream.set_paused(paused);
            !paused && stream.has_unread()
        });
        if unread == Some(true) {
            self.remind(token);
        }
    }

    pub fn set_idle_timeout(&mut self, token: Token, timeout: Option<Duration>) {
        self.with_stream(token, |stream| stream.set_idle_timeout(timeout));
    }

    pub fn set_no_delay(&self, token: Token, no_delay: bool) -> io::Result<()> {
        self.with_socket(token, |socket| socket.set_tcp_nodelay(no_delay))
    }

    pub fn set_keep_alive(&self, token: Token, enable: bool, delay: Duration) -> io::Result<()> {
        self.with_socket(token, |socket| {
            stream::set_keep_alive(socket, enable, delay)
        })
    }

    pub fn endpoints(&mut self, token: Token) -> Endpoints {
        self.stream_mut(token)
            .map(Stream::endpoints)
            .unwrap_or_default()
    }

    pub fn ready_state(&self, token: Token) -> ReadyState {
        self.stream(token).map_or(ReadyState::Closed, |stream| {
            let state = stream.state.ready_state();
            if stream.is_handshaking() && state == ReadyState::Established {
                ReadyState::Handshaking
            } else {
                state
            }
        })
    }

    pub fn queued(&self, token: Token) -> usize {
        self.stream(token).map_or(0, Stream::queued)
    }

    /// Bytes read and written so far.
    pub fn counters(&self, token: Token) -> Option<(u64, u64)> {
        self.stream(token)
            .map(|stream| (stream.bytes_read, stream.bytes_written()))
    }

    /// Whether the owner still gets events from it.
    pub fn is_open(&self, token: Token) -> bool {
        self.stream(token)
            .is_some_and(|stream| stream.state.is_open())
    }

    pub fn delivers(&self, token: Token) -> bool {
        self.stream(token)
            .is_some_and(|stream| stream.state.delivers() && !stream.state.paused)
    }

    pub fn raw_fd(&self, token: Token) -> Option<RawFd> {
        match self.members.get(token)? {
            Member::Stream(stream) if !stream.told => stream.raw_fd(),
            Member::Stream(_) => None,
            Member::Listener(listener) => Some(listener.fd.as_raw_fd()),
            Member::Attempt(attempt) => Some(attempt.raw_fd()),
        }
    }

    pub fn close_listener(&mut self, token: Token) {
        if let Some(Member::Listener(_)) = self.members.get(token)
            && let Some(Member::Listener(listener)) = self.members.remove(token)
        {
            self.references -= usize::from(listener.referenced);
        }
    }

    // What keeps the loop running

    pub fn set_referenced(&mut self, token: Token, wanted: bool) {
        let referenced = match self.members.get_mut(token) {
            Some(Member::Stream(stream)) if !stream.told => &mut stream.referenced,
            Some(Member::Listener(listener)) => &mut listener.referenced,
            _ => return,
        };
        if std::mem::replace(referenced, wanted) != wanted {
            if wanted {
                self.references += 1;
            } else {
                self.references -= 1;
            }
        }
    }

    pub fn hold(&mut self) {
        self.references += 1;
    }

    pub fn unhold(&mut self) {
        self.references -= 1;
    }

    pub fn is_referenced(&self) -> bool {
        self.references > 0 || self.has_notices()
    }

    // Inside

    fn stream(&self, token: Token) -> Option<&Stream> {
        match self.members.get(token) {
            Some(Member::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    fn stream_mut(&mut self, token: Token) -> Option<&mut Stream> {
        match self.members.get_mut(token) {
            Some(Member::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    fn with_stream<R>(&mut self, token: Token, act: impl FnOnce(&mut Stream) -> R) -> Option<R> {
        let stream = self.stream_mut(token)?;
        if !stream.state.is_open() {
            return None;
        }
        let result = act(stream);
        self.settle(token);
        Some(result)
    }

    fn with_socket(
        &self,
        token: Token,
        act: impl FnOnce(&SockRef<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.stream(token) {
            Some(stream) if !stream.told => match stream.borrow_fd() {
                Some(fd) => act(&SockRef::from(&fd)),
                None => Err(io::Error::from_raw_os_error(libc::EBADF)),
            },
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// Draws the conclusions from what was just done to a stream.
    #[inline]
    fn settle(&mut self, token: Token) {
        let in_turn = self.in_turn;
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        if !in_turn && stream.wants_flush() {
            stream.send_queue();
        }
        if stream.secure().is_some_and(Secure::take_pump) {
            return self.ask_for_pump(token);
        }
        if stream.state.is_over() {
            return self.close(token, false, CloseReason::Clean);
        }
        if let Some(error) = stream.take_broken() {
            return self.close(token, false, CloseReason::Io(error));
        }
        if stream.state.is_lingering() && !stream.told {
            self.tell(token, CloseReason::Clean);
        }
        self.update(token);
    }

    fn ask_for_pump(&mut self, token: Token) {
        self.notices.push_back(Notice::Pump(token));
        if !self.in_turn {
            self.set_alarm();
        }
        self.settle(token);
    }

    /// Brings the kernel's and the timers' view of a stream up to date.
    #[inline]
    fn update(&mut self, token: Token) {
        let in_turn = self.in_turn;
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        let timed = stream.is_timed();
        if (stream.wanted() != stream.known || stream.wants_flush()) && !stream.dirty {
            if in_turn {
                stream.dirty = true;
                self.dirty.push(token);
            } else {
                self.sync(token);
            }
        }
        if timed {
            self.arm(token);
        }
    }

    fn sync(&mut self, token: Token) {
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        let (known, wanted) = (stream.known, stream.wanted());
        let Some(fd) = stream.raw_fd() else { return };
        stream.known = wanted;
        if let Err(error) = self.poller.change(fd, token, known, wanted) {
            // Unwatched it would hang for ever.
            self.close(token, true, CloseReason::Io(error));
        }
    }

    fn arm(&mut self, token: Token) {
        let now = if self.in_turn {
            self.timers.now()
        } else {
            self.timers.refresh()
        };
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        let Some(deadline) = stream.deadline(now) else {
            return;
        };
        if deadline < stream.armed {
            stream.armed = deadline;
            self.timers.push(deadline, token);
            if !self.in_turn {
                self.set_alarm();
            }
        }
    }

    fn close(&mut self, token: Token, reset: bool, reason: CloseReason) {
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        if stream.state.is_closed() {
            return;
        }
        // Dropping the descriptor closes it, and with it goes its place in the readiness queue.
        drop(stream.take_fd(reset));
        stream.known = Interest::NONE;
        let (told, released) = (stream.told, stream.released);
        if !told {
            self.tell(token, reason);
        }
        if released {
            self.members.remove(token);
        }
        self.wake_starved();
    }

    /// Queues the one notice of the end.
    fn tell(&mut self, token: Token, reason: CloseReason) {
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        stream.told = true;
        stream.endpoints();
        let referenced = std::mem::take(&mut stream.referenced);
        self.references -= usize::from(referenced);
        self.notices.push_back(Notice::Closed(token, reason));
        if !self.in_turn {
            self.set_alarm();
        }
    }

    fn register(&mut self, token: Token) -> io::Result<()> {
        let (fd, known, wanted) = match self.members.get_mut(token) {
            Some(Member::Stream(s)) => match s.raw_fd() {
                Some(fd) => (fd, &mut s.known, Interest::READABLE),
                None => return Ok(()),
            },
            Some(Member::Listener(l)) => (l.fd.as_raw_fd(), &mut l.known, Interest::READABLE),
            Some(Member::Attempt(a)) => (a.raw_fd(), &mut a.known, Interest::WRITABLE),
            None => return Ok(()),
        };
        let before = std::mem::replace(known, wanted);
        self.poller.change(fd, token, before, wanted)
    }
}

//! What the owner of a connection does with it, by token.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use super::{Engine, Member, Notice};
use crate::buffer::Piece;
use crate::error::{CloseReason, WriteAllError};
use crate::file::{FilePart, FileProgress};
use crate::state::{Input, ReadyState};
use crate::stream;
use crate::stream::{Endpoints, Stream, Written};
use crate::token::Token;

impl Engine {
    pub fn write(&mut self, token: Token, data: &[u8]) -> Written {
        match self.with_stream(token, |stream| stream.write(data)) {
            // TLS had gathered it, and sending it failed.
            Some(Written::Accepted(1..)) if self.broken(token).is_some() => Written::Closed,
            Some(written) => written,
            None => Written::Closed,
        }
    }

    /// Sends what comes before everything else, TLS included.
    pub fn send_preface(&mut self, token: Token, preface: &[u8]) {
        self.with_stream(token, |stream| stream.send_preface(preface));
    }

    pub fn write_all(&mut self, token: Token, data: &[u8]) -> Result<(), WriteAllError> {
        self.with_stream(token, |stream| stream.write_all(data))
            .unwrap_or(Err(WriteAllError::Closed))
    }

    pub fn send_all(&mut self, token: Token, data: Piece<'_>) -> Result<(), WriteAllError> {
        self.with_stream(token, |stream| stream.send_all(data))
            .unwrap_or(Err(WriteAllError::Closed))
    }

    /// Sends a part of a file, behind everything that was accepted and ahead of what will be.
    pub fn send_file(&mut self, token: Token, part: FilePart) -> Result<(), WriteAllError> {
        self.with_stream(token, |stream| stream.send_file(part))
            .unwrap_or(Err(WriteAllError::Closed))
    }

    /// Takes back what is not sent of a file, also where the connection is being closed.
    pub fn withdraw_file(&mut self, token: Token, progress: &Arc<FileProgress>) {
        if let Some(stream) = self.stream_mut(token) {
            stream.withdraw_file(progress);
            self.settle(token);
        }
    }

    /// How much is gathered within a turn, and how little has to wait when `drain` is called, also
    /// while what is left goes out behind `close()`.
    pub fn set_marks(&mut self, token: Token, gather_limit: usize, low_water: usize) {
        self.send_outbox_of(token);
        if let Some(stream) = self.stream_mut(token) {
            stream.set_marks(gather_limit, low_water);
        }
    }

    pub fn end(&mut self, token: Token, data: &[u8]) -> Result<(), WriteAllError> {
        self.with_stream(token, |stream| stream.end(data))
            .unwrap_or(Err(WriteAllError::Closed))
    }

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

    /// That, or what its owner is about to be told.
    pub fn why_lost(&self, token: Token) -> Option<CloseReason> {
        let end = |notice: &Notice| match notice {
            Notice::Closed(member, reason) if *member == token => reason.failure(),
            _ => None,
        };
        let stream = self.stream(token);
        let broken = stream.and_then(Stream::broken).map(CloseReason::Io);
        let tls = || stream?.untold_tls_error().map(CloseReason::Tls);
        broken
            .or_else(tls)
            .or_else(|| self.notices.iter().find_map(end))
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

    /// Whether TLS has broken: what fails behind that is the alert.
    pub fn has_dead_tls(&self, token: Token) -> bool {
        self.stream(token).is_some_and(Stream::has_dead_tls)
    }

    pub fn shutdown(&mut self, token: Token) {
        self.with_stream(token, |stream| stream.apply(Input::Shutdown));
    }

    pub fn stop_reading(&mut self, token: Token) {
        if self.is_piped(token) {
            return;
        }
        self.with_stream(token, |stream| {
            stream.apply(Input::StopReading);
            stream.take_waiting();
        });
    }

    pub fn close_gracefully(&mut self, token: Token) {
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        if stream.is_handshaking() {
            if stream.closes_when_secured() {
                // What was accepted before the handshake can only leave behind it.
                self.with_stream(token, |stream| stream.apply(Input::End));
                return;
            }
            if !stream.abort_handshake() {
                return self.close(token, false, CloseReason::Clean);
            }
        }
        self.with_stream(token, |stream| stream.apply(Input::Close));
    }

    /// As `close_gracefully()`; but over TLS the owner still hears of the peer's goodbye, and it is
    /// for the owner to close then.
    pub fn leave(&mut self, token: Token) {
        if !self.stream(token).is_some_and(Stream::is_established) {
            return self.close_gracefully(token);
        }
        let unread = self.with_stream(token, |stream| {
            stream.apply(Input::Leave);
            stream.has_unread()
        });
        if unread == Some(true) {
            self.remind(token);
        }
    }

    /// Closes a connection that does not move: gracefully if nothing is left to send, else at once.
    /// What goes through two piped ones was cut off, wherever it waits.
    pub fn close_stalled(&mut self, token: Token) {
        if self.is_piped(token) {
            return self.terminate(token);
        }
        match self.stream(token).map(Stream::queued) {
            Some(0) => self.close_gracefully(token),
            Some(_) => self.terminate(token),
            None => {}
        }
    }

    /// Closes at once, as close(2) does: what the kernel has not taken is lost.
    pub fn abort(&mut self, token: Token) {
        // What was gathered for the end of the turn is as good as sent.
        self.flush(token);
        self.close(token, false, CloseReason::Clean);
    }

    pub fn terminate(&mut self, token: Token) {
        self.close(token, true, CloseReason::Clean);
    }

    pub fn set_paused(&mut self, token: Token, paused: bool) {
        if self.is_piped(token) {
            return;
        }
        let unread = self.with_stream(token, |stream| {
            stream.set_paused(paused);
            !paused && stream.has_unread()
        });
        if unread == Some(true) {
            self.remind(token);
        }
    }

    /// While the owner is busy with what it was told last, it hears of nothing else, and nothing
    /// more is read for it.
    pub fn set_held(&mut self, token: Token, held: bool) {
        if self.is_piped(token) {
            return;
        }
        let unread = self.with_stream(token, |stream| {
            stream.set_held(held);
            if !held && stream.state.read_ended() {
                stream.apply(Input::EndHandled);
            }
            !held && stream.has_unread()
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

    /// The owner is told when little enough waits, also if that is so already: what it saw waiting
    /// may have been sent meanwhile. A transport's is told behind `close()`, too.
    pub fn await_drain(&mut self, token: Token) {
        self.send_outbox_of(token);
        if let Some(stream) = self.stream_mut(token) {
            stream.promise_drain();
            self.settle(token);
        }
    }

    /// Bytes that have to wait, without promising anything.
    pub fn waiting(&self, token: Token) -> usize {
        self.stream(token).map_or(0, Stream::buffered)
    }

    /// Bytes that were accepted and have to wait. Who sees some gets `drain` when there are none.
    pub fn buffered(&mut self, token: Token) -> usize {
        let shown = self.with_stream(token, Stream::show_buffered);
        shown.unwrap_or_else(|| self.stream(token).map_or(0, Stream::buffered))
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

    /// Whether it broke while its owner was busy.
    pub fn is_doomed(&self, token: Token) -> bool {
        self.stream(token).is_some_and(Stream::is_doomed)
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
            Member::Greeting(greeting) => Some(greeting.raw_fd()),
        }
    }

    /// Whose descriptor it is.
    pub fn holder(&self, fd: RawFd) -> Option<Token> {
        let mut tokens = self.members.tokens().into_iter();
        tokens.find(|token| self.raw_fd(*token) == Some(fd))
    }

    pub(super) fn with_socket(
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
}

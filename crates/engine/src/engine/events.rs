//! What becomes of an event: reading, accepting, swallowing.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use super::{DISCARD_BUDGET, Engine, Event, Member, Read};
use crate::error::CloseReason;
use crate::listener::{Accepted, Acceptor};
use crate::poller::{Interest, Ready};
use crate::state::Input;
use crate::stream::Received;
use crate::sys::net;
use crate::tls::TlsError;
use crate::token::Token;

impl Engine {
    /// An event of this member comes next.
    #[inline]
    pub fn prefetch(&self, token: Token) {
        self.members.prefetch(token);
    }

    pub fn on_ready(&mut self, token: Token, ready: Ready) -> Event {
        match self.members.get_mut(token) {
            Some(Member::Stream(_)) => self.on_stream_ready(token, ready),
            Some(Member::Listener(_)) => Event::Listener,
            Some(Member::Attempt(_)) => self.on_attempt_ready(token, ready),
            Some(Member::Greeting(_)) => self.on_greeting_ready(token),
            None => Event::Nothing,
        }
    }

    pub(super) fn on_stream_ready(&mut self, token: Token, ready: Ready) -> Event {
        let is_piped = ready.broken && self.is_piped(token);
        let Some(stream) = self.stream_mut(token) else {
            return Event::Nothing;
        };
        if ready.broken {
            // A unix socket that was closed has finished both ways; that is not a failure, and its
            // last bytes may still be on their way through the other connection.
            let waits_to_send = is_piped && !ready.failed;
            if let Some(error) = stream.on_hang_up(waits_to_send) {
                self.close_broken(token, error);
                return Event::Nothing;
            }
            if stream.state.held && stream.note_hang_up(ready.failed) {
                self.settle(token);
                return Event::Lost;
            }
        }
        let mut drained = false;
        if ready.writable && stream.known.writable {
            stream.send_queue();
            drained = stream.take_drain();
            self.settle(token);
            if drained && self.is_piped(token) {
                self.resume_partner(token);
                drained = false;
            }
        } else if ready.broken {
            self.settle(token);
        }
        Event::Stream {
            readable: ready.readable,
            drained,
        }
    }

    /// Reads once. Input that the owner is not to get goes to the stream that this one is piped
    /// to, or is swallowed.
    pub fn read(&mut self, token: Token, buffer: &mut [u8]) -> Read {
        let Some(Member::Stream(stream)) = self.members.get_mut(token) else {
            return Read::Nothing;
        };
        if !stream.wants_input() {
            return Read::Nothing;
        }
        if !stream.state.delivers() {
            return self.take_undelivered(token, buffer);
        }
        match stream.receive(buffer, &mut self.scratch) {
            Received::Data { n, more } => {
                stream.bytes_read += n as u64;
                if stream.is_timed() {
                    // Its deadline only moves away: what is armed comes up too early, and is
                    // entered again then.
                    stream.date(self.timers.now());
                }
                Read::Data { n, more }
            }
            other => self.on_received(token, other),
        }
    }

    fn take_undelivered(&mut self, token: Token, buffer: &mut [u8]) -> Read {
        if self.stream(token).is_some_and(|it| it.state.feeds_pipe()) {
            self.carry(token, buffer)
        } else {
            self.discard(token, buffer)
        }
    }

    fn discard(&mut self, token: Token, buffer: &mut [u8]) -> Read {
        let mut more = true;
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
        // What TLS has opened already is not reported by the kernel again.
        self.remind_if_unread(token);
        self.settle(token);
        Read::Nothing
    }

    pub(super) fn on_received(&mut self, token: Token, received: Received) -> Read {
        match received {
            Received::Data { .. } => Read::Nothing,
            Received::Nothing => {
                // A handshake may have had something to say that the kernel would not take.
                self.update(token);
                Read::Nothing
            }
            Received::Fin => self.on_fin(token),
            Received::Failed(error) => {
                self.close(token, false, CloseReason::Io(error));
                Read::Nothing
            }
            Received::Ciphertext { n, more } => Read::Ciphertext { n, more },
            Received::Established => self.on_established(token),
            Received::Broken(error) => self.on_broken(token, error),
        }
    }

    fn on_established(&mut self, token: Token) -> Read {
        self.note_handshake(token);
        let Some(stream) = self.stream_mut(token) else {
            return Read::Nothing;
        };
        if stream.is_closed_when_secured() {
            self.close_gracefully(token);
            return Read::Nothing;
        }
        let held = stream.state.held;
        if held && let Some(secure) = stream.secure() {
            secure.keep_news();
        }
        self.settle(token);
        if held {
            Read::Nothing
        } else {
            Read::Established
        }
    }

    /// The TLS session failed. If it was never established, neither was the connection: its owner
    /// is told at once, while the alert still goes out.
    pub(super) fn on_broken(&mut self, token: Token, error: TlsError) -> Read {
        let Some(stream) = self.stream_mut(token) else {
            return Read::Nothing;
        };
        stream.send_queue();
        if !stream.is_handshaking() {
            // What came over may be cut short: the other end is not to take it for whole.
            self.end_partner(token, false);
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

    pub(super) fn on_fin(&mut self, token: Token) -> Read {
        let Some(stream) = self.stream_mut(token) else {
            return Read::Nothing;
        };
        let open = stream.state.is_open();
        stream.state.apply(Input::PeerFin);
        if self.is_piped(token) {
            self.carry_fin(token);
        } else if open {
            // The owner speaks first; its last words may go with our FIN.
            return Read::End;
        }
        self.settle(token);
        Read::Nothing
    }

    /// The owner has been told of the peer's FIN. If it is busy with that, it is done when it is
    /// held no longer.
    pub fn end_handled(&mut self, token: Token) {
        if self.is_piped(token) {
            return;
        }
        self.with_stream(token, |stream| {
            if !stream.state.held {
                stream.apply(Input::EndHandled);
            }
        });
    }

    pub fn accept(&mut self, token: Token) -> Accepted {
        if let Some(nobody) = self.refrain(token) {
            return nobody;
        }
        let Some(Member::Listener(listener)) = self.members.get_mut(token) else {
            return Accepted::Empty;
        };
        let defaults = Arc::clone(&listener.defaults);
        let tls = listener.tls.clone();
        let proxy = listener.proxy.clone();
        match listener.accept() {
            Ok((fd, remote)) => {
                listener.starved = false;
                if let Some(policy) = proxy {
                    return self.greet(token, fd, remote, defaults, policy);
                }
                if listener.gate.as_ref().is_some_and(|it| !it.admits(remote)) {
                    // Where it cannot be reset it is just closed.
                    let _ = net::disconnect(fd.as_fd());
                    return Accepted::Refused;
                }
                let driver = match tls.as_ref().map(Acceptor::driver).transpose() {
                    Ok(driver) => driver,
                    Err(error) => return Accepted::Failed(io::Error::other(error)),
                };
                match self.add_stream(fd, remote, defaults, driver) {
                    Ok(stream) => {
                        self.note_guest(token, stream, remote);
                        Accepted::Stream(stream)
                    }
                    // It cannot be watched and is closed: the kernel is short of something.
                    Err((_, error)) => self.rest(token, error),
                }
            }
            Err(Accepted::Starved(error, _)) => self.rest(token, error),
            Err(other) => other,
        }
    }

    /// Takes a listener out of the queue until descriptors are free.
    pub(super) fn rest(&mut self, token: Token, shortage: io::Error) -> Accepted {
        let Some(Member::Listener(listener)) = self.members.get_mut(token) else {
            return Accepted::Empty;
        };
        let first = !std::mem::replace(&mut listener.starved, true);
        let (fd, known) = (listener.fd.as_raw_fd(), listener.known);
        listener.known = Interest::NONE;
        if let Err(error) = self.poller.change(fd, token, known, Interest::NONE) {
            return Accepted::Failed(error);
        }
        self.rest_until_retry(token);
        Accepted::Starved(shortage, first)
    }

    /// A descriptor may be free: listeners that ran out of them try again. They stay marked as
    /// starved until an accept succeeds, so that one shortage is reported once.
    pub(super) fn wake_starved(&mut self) {
        while let Some(token) = self.resting.pop() {
            if !self.watch_listener(token) {
                return;
            }
        }
    }
}

//! Listeners that do not accept for now: paused, or with a limit in the way.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use super::{Engine, Member};
use crate::gate::{Gate, Limits};
use crate::listener::{Accepted, Listener, STARVED_RETRY};
use crate::timers::Millis;
use crate::token::Token;

impl Engine {
    /// Has a listener keep to limits. Nobody must have been accepted yet.
    pub fn set_limits(&mut self, token: Token, limits: Limits) {
        let now = self.present();
        if let Some(listener) = self.listener_mut(token) {
            listener.gate = Some(Box::new(Gate::new(limits, now)));
        }
    }

    /// Whether a listener accepts, as its owner wants it. Whoever comes meanwhile waits in the
    /// kernel's queue.
    pub fn set_accepting(&mut self, token: Token, accepting: bool) {
        if let Some(listener) = self.listener_mut(token) {
            listener.paused = !accepting;
            self.watch_listener(token);
        }
    }

    /// Nobody is to be accepted, for now; `None` if somebody may be.
    pub(super) fn refrain(&mut self, token: Token) -> Option<Accepted> {
        let now = self.timers.now();
        let listener = self.listener_mut(token)?;
        if listener.paused {
            return Some(Accepted::Empty);
        }
        let gate = listener.gate.as_mut()?;
        if gate.is_shut() {
            // An event that was on its way. When it opens has been settled.
            return Some(Accepted::Empty);
        }
        let limit = gate.check(now)?;
        let opens_at = gate.opens_at();
        self.watch_listener(token);
        if let Some(at) = opens_at {
            self.schedule(at, token);
        }
        Some(Accepted::AtLimit(limit))
    }

    /// A connection was accepted.
    #[inline]
    pub(super) fn note_guest(
        &mut self,
        listener: Token,
        stream: Token,
        remote: Option<SocketAddr>,
    ) {
        let handshaking = self.is_handshaking(stream);
        if let Some(gate) = self.gate_mut(listener) {
            let guest = gate.enter(remote, handshaking);
            self.guests.insert(stream, (listener, guest));
        }
    }

    /// A connection was accepted; of whom, its PROXY header is to tell. That is the beginning of
    /// its TLS handshake, for which it would not have to wait any more.
    pub(super) fn note_stranger(&mut self, token: Token, greeting: Token) {
        if let Some(listener) = self.listener_mut(token) {
            let handshaking = listener.tls.is_some();
            if let Some(gate) = listener.gate.as_deref_mut() {
                let guest = gate.enter(None, handshaking);
                self.guests.insert(greeting, (token, guest));
            }
        }
    }

    /// Its header has told of whom it is. False if there are enough of that host.
    pub(super) fn introduce(&mut self, greeting: Token, client: Option<SocketAddr>) -> bool {
        let Some((listener, guest)) = self.guests.get_mut(&greeting) else {
            return true;
        };
        let Some(Member::Listener(listener)) = self.members.get_mut(*listener) else {
            return true;
        };
        let Some(gate) = listener.gate.as_deref_mut() else {
            return true;
        };
        if !gate.admits(client) {
            return false;
        }
        gate.introduce(guest, client);
        true
    }

    /// The TLS handshake of a connection is done.
    #[inline]
    pub(super) fn note_handshake(&mut self, stream: Token) {
        if self.guests.is_empty() {
            return;
        }
        if let Some((listener, guest)) = self.guests.get_mut(&stream)
            && std::mem::take(&mut guest.handshaking)
        {
            let listener = *listener;
            if let Some(gate) = self.gate_mut(listener) {
                gate.end_handshake();
            }
            self.reconsider(listener);
        }
    }

    /// The descriptor of a connection is closed, and its owner hears of that.
    #[inline]
    pub(super) fn note_leaving(&mut self, stream: Token) {
        if self.guests.is_empty() {
            return;
        }
        if let Some((listener, guest)) = self.guests.remove(&stream) {
            if let Some(gate) = self.gate_mut(listener) {
                gate.leave(guest);
            }
            self.reconsider(listener);
        }
    }

    /// Accepts again if no limit is in the way any more.
    pub(super) fn reconsider(&mut self, token: Token) {
        let now = self.present();
        let Some(gate) = self.gate_mut(token) else {
            return;
        };
        if gate.is_shut() {
            let before = gate.opens_at();
            gate.check(now);
            let opens_at = gate.opens_at();
            self.watch_listener(token);
            if let Some(at) = opens_at
                && opens_at != before
            {
                self.schedule(at, token);
            }
        }
    }

    /// Tells the kernel whether a listener accepts. Where it cannot be told for want of memory, the
    /// next deadline tries again, and this is false.
    pub(super) fn watch_listener(&mut self, token: Token) -> bool {
        let Some(Member::Listener(listener)) = self.members.get_mut(token) else {
            return true;
        };
        let (fd, known, wanted) = (listener.fd.as_raw_fd(), listener.known, listener.wanted());
        if self.poller.change(fd, token, known, wanted).is_ok() {
            listener.known = wanted;
            return true;
        }
        self.rest_until_retry(token);
        false
    }

    pub(super) fn rest_until_retry(&mut self, token: Token) {
        if !self.resting.contains(&token) {
            self.resting.push(token);
        }
        let at = self.present() + STARVED_RETRY;
        self.schedule(at, token);
    }

    fn gate_mut(&mut self, token: Token) -> Option<&mut Gate> {
        self.listener_mut(token)?.gate.as_deref_mut()
    }

    fn listener_mut(&mut self, token: Token) -> Option<&mut Listener> {
        match self.members.get_mut(token) {
            Some(Member::Listener(listener)) => Some(listener),
            _ => None,
        }
    }
}

impl Listener {
    pub(super) fn is_due(&self, at: Millis) -> bool {
        self.starved || self.gate.as_ref().and_then(|gate| gate.opens_at()) == Some(at)
    }
}

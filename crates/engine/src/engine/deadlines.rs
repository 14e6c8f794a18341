//! When members are to be looked at, and what has become of those that are late.

use super::{Engine, Member, Notice};
use crate::error::CloseReason;
use crate::sys::Events;
use crate::timers::Millis;
use crate::token::Token;

/// Fewer deadlines than this are not worth sweeping.
const SWEPT_FROM: usize = 64;

impl Engine {
    /// Has the member looked at then. Entries of members that are gone, or whose deadline was
    /// brought forward, are swept out before they outnumber the others.
    pub(super) fn schedule(&mut self, at: Millis, token: Token) {
        if self.timers.len() > SWEPT_FROM.max(2 * self.members.len()) {
            let members = &self.members;
            self.timers.retain(|at, token| match members.get(token) {
                Some(Member::Stream(stream)) => stream.armed == at,
                Some(Member::Listener(listener)) => listener.is_due(at),
                Some(Member::Attempt(attempt)) => attempt.is_due(at),
                Some(Member::Greeting(greeting)) => greeting.is_due(at),
                None => false,
            });
        }
        self.timers.push(at, token);
        if !self.in_turn() {
            self.set_alarm();
        }
    }

    /// What was due when the turn began, and these events are all handled: nobody is late whom we
    /// have kept waiting, as while a handler took its time or the process was halted.
    pub fn expire(&mut self, handled: &Events) {
        // The queue tells each in its turn: after so many waits it has told all there was at first.
        let in_parts = || self.members.len() / handled.len().max(1);
        if handled.is_all() || self.partial_waits > in_parts() {
            self.partial_waits = 0;
            self.expire_all();
        } else {
            self.partial_waits += 1;
        }
    }

    fn expire_all(&mut self) {
        while let Some((at, token)) = self.timers.pop_due() {
            match self.members.get_mut(token) {
                Some(Member::Stream(stream)) if stream.armed == at => {
                    stream.armed = Millis::MAX;
                    self.on_deadline(token);
                }
                Some(Member::Listener(listener)) if listener.is_due(at) => {
                    self.wake_starved();
                    self.reconsider(token);
                }
                Some(Member::Attempt(attempt)) if attempt.is_due(at) => {
                    self.on_attempt_deadline(token);
                }
                Some(Member::Greeting(greeting)) if greeting.is_due(at) => {
                    self.on_greeting_deadline(token);
                }
                _ => {}
            }
        }
    }

    fn on_deadline(&mut self, token: Token) {
        let now = self.timers.now();
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        stream.look_at_peer(now);
        stream.ask_again();
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
}

//! What a connection wants to hear of, and until when.

use std::os::fd::AsFd;
use std::time::Duration;

use super::Stream;
use crate::error::{CloseReason, DEAD};
use crate::poller::Interest;
use crate::timers::{Millis, millis};

/// How long a connection waits before it asks a kernel again that was short of memory.
const SHORTAGE_RETRY: Millis = 100;

impl Stream {
    /// Whether what happened last concerns nobody else, as by far the most reads and writes: the
    /// connection goes on, without a deadline, nothing waits, and the kernel watches for input only.
    #[inline]
    pub fn is_settled(&self) -> bool {
        let waits = self.drain_owed | self.drain_promised | self.watch_sends | self.hung;
        self.secure.as_ref().is_none_or(|it| it.is_settled())
            && self.broken.is_none()
            && self.state.goes_on()
            && self.idle == 0
            && self.queue.is_empty()
            && !waits
            && self.known == Interest::READABLE
    }

    #[inline]
    pub fn wanted(&self) -> Interest {
        if self.fd.is_none() || self.short {
            return Interest::NONE;
        }
        // A cork holds nothing back once the kernel has refused some of it, or our FIN is owed.
        let uncorked = self.corks == 0 || self.refused || self.state.owes_fin();
        let sending =
            (!self.queue.is_empty() && uncorked) || self.watches_sends() || self.waits_for_file();
        Interest {
            readable: self.wants_input(),
            writable: (sending && self.broken.is_none()) || self.awaits_drain(),
            errors: !self.hung,
        }
    }

    /// Why it ends, in our own words where the kernel gave it up for `dead_after`.
    pub fn reason_of_death(&self, reason: CloseReason) -> CloseReason {
        match reason {
            CloseReason::Io(error) if self.settings.is_death(&error) => CloseReason::TimedOut(DEAD),
            other => other,
        }
    }

    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.idle = timeout.map_or(0, millis);
        self.restarts_idle = true;
    }

    /// The idle time begins anew. That is no progress in closing.
    pub fn restart_idle(&mut self) {
        self.restarts_idle = true;
    }

    /// Whether something was gathered that nothing holds back any more.
    pub fn wants_flush(&self) -> bool {
        self.corks == 0
            && self
                .secure
                .as_ref()
                .is_some_and(|secure| secure.wants_flush())
    }

    pub fn is_timed(&self) -> bool {
        self.idle > 0 || self.short || self.state.must_end_soon() || self.is_handshaking()
    }

    /// Whatever the kernel was short of may be there by now.
    pub fn ask_again(&mut self) {
        self.short = false;
    }

    /// Dates what happened since the last call.
    pub fn date(&mut self, now: Millis) {
        let ending = self.state.must_end_soon();
        if self.active || self.restarts_idle {
            self.restarts_idle = false;
            self.idle_since = now;
        }
        if self.active || ending != self.ending {
            self.active = false;
            self.ending = ending;
            self.last_activity = now;
        }
    }

    /// Has the kernel tell what the peer acknowledged, which counts as something that happened.
    pub fn look_at_peer(&mut self, now: Millis) {
        if let Some(fd) = &self.fd
            && self.acknowledged.is_behind(self.sent)
        {
            self.active |= self.acknowledged.look(fd.as_fd(), self.sent, now);
        }
    }

    /// The next deadline, after dating what happened.
    pub fn deadline(&mut self, now: Millis) -> Option<Millis> {
        self.date(now);
        if let (Some(secure), Some(timeout)) = (&mut self.secure, self.settings.handshake_timeout) {
            secure.start_clock(now.saturating_add(millis(timeout)));
        }
        let deadlines = [
            self.idle_deadline(),
            self.close_deadline(),
            self.handshake_deadline(),
            self.next_look(),
            self.short.then(|| now.saturating_add(SHORTAGE_RETRY)),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// When to look at what the peer acknowledged, ahead of a deadline that this would put off.
    fn next_look(&self) -> Option<Millis> {
        if !self.acknowledged.is_behind(self.sent) {
            return None;
        }
        let idle = self.idle_deadline().map(|_| self.idle);
        let close = self.close_deadline().and(self.settings.close_timeout);
        let timeout = idle.into_iter().chain(close.map(millis)).min()?;
        Some(self.acknowledged.next_look(self.last_activity, timeout))
    }

    pub fn idle_deadline(&self) -> Option<Millis> {
        let running = self.idle > 0 && self.state.is_open() && !self.is_handshaking();
        running.then(|| self.idle_since.saturating_add(self.idle))
    }

    pub fn handshake_deadline(&self) -> Option<Millis> {
        let secure = self.secure.as_ref()?;
        if self.state.is_open() {
            secure.handshake_deadline()
        } else {
            None
        }
    }

    pub fn close_deadline(&self) -> Option<Millis> {
        let timeout = self.settings.close_timeout?;
        // asyncio waits for a slow reader, and its TLS does not.
        let patient = self.settings.transport && self.secure.is_none();
        let running = self.state.must_end_soon() && (self.state.fin_sent() || !patient);
        running.then(|| self.last_activity.saturating_add(millis(timeout)))
    }
}

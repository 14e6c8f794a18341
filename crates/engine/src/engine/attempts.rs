//! Connections in the making: started, reported once, claimed as a stream or given up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Engine, Event, Member, Notice};
use crate::connect::Attempt;
use crate::poller::{Interest, Ready};
use crate::stream::{self, Driver, Settings, Stream};
use crate::timers::{Millis, millis};
use crate::token::Token;

/// Attempts that can be claimed without a turn between. Whoever connects in a loop without ever
/// waiting would starve everybody else.
const AT_ONCE_LIMIT: usize = 64;

impl Engine {
    /// Takes an attempt on. True if it can be claimed at once; else it is followed for so long,
    /// and a notice tells how it went.
    pub fn add_attempt(
        &mut self,
        mut attempt: Attempt,
        timeout: Option<Duration>,
    ) -> io::Result<(Token, bool)> {
        let at_once = attempt.connected && self.connected_at_once < AT_ONCE_LIMIT;
        attempt.told = at_once;
        let token = self.members.insert(Member::Attempt(attempt));
        if at_once {
            self.connected_at_once += 1;
            return Ok((token, true));
        }
        if let Err(error) = self.register(token) {
            self.dismiss(token);
            return Err(error);
        }
        if let Some(timeout) = timeout {
            let deadline = self.present().saturating_add(millis(timeout));
            if let Some(attempt) = self.attempt_mut(token) {
                attempt.deadline = deadline;
            }
            self.schedule(deadline, token);
        }
        Ok((token, false))
    }

    pub(super) fn on_attempt_ready(&mut self, token: Token, ready: Ready) -> Event {
        let Some(attempt) = self.attempt_mut(token) else {
            return Event::Nothing;
        };
        if std::mem::replace(&mut attempt.told, true) {
            // Nobody has claimed it in the meantime: it would be reported without end.
            let (fd, known) = (attempt.raw_fd(), attempt.known);
            attempt.known = Interest::NONE;
            if self
                .poller
                .change(fd, token, known, Interest::NONE)
                .is_err()
            {
                self.dismiss(token);
            }
            return Event::Nothing;
        }
        let failure = if ready.broken {
            attempt.failure()
        } else {
            None
        };
        let notice = match failure {
            None => Notice::Connected(token),
            Some(error) => {
                self.cancel_attempt(token);
                Notice::NotConnected(token, Some(error))
            }
        };
        self.notices.push_back(notice);
        Event::Nothing
    }

    pub(super) fn on_attempt_deadline(&mut self, token: Token) {
        if self.attempt_mut(token).is_some_and(|attempt| !attempt.told) {
            self.cancel_attempt(token);
            self.notices.push_back(Notice::NotConnected(token, None));
        }
    }

    /// Turns a connected attempt into a stream, which keeps its token.
    pub fn establish(
        &mut self,
        token: Token,
        settings: Arc<Settings>,
        driver: Option<Driver>,
    ) -> io::Result<()> {
        if self.attempt_mut(token).is_none() {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let Some(Member::Attempt(attempt)) = self.members.replace(token, None) else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        let (known, remote) = (attempt.known, attempt.remote);
        let fd = attempt.into_fd();
        let prepared = match remote {
            Some(_) => stream::apply_tcp_options(&fd, &settings),
            None => Ok(()),
        };
        let mut stream = Stream::new(fd, remote, settings);
        stream.known = known;
        if let Some(driver) = driver {
            stream.secure_with(driver);
        }
        self.members.replace(token, Some(Member::Stream(stream)));
        if let Err(error) = prepared.and_then(|()| self.register(token)) {
            self.dismiss(token);
            return Err(error);
        }
        self.references += 1;
        self.arm(token);
        self.settle(token);
        Ok(())
    }

    pub fn cancel_attempt(&mut self, token: Token) {
        if self.attempt_mut(token).is_some() {
            self.dismiss(token);
            self.wake_starved();
        }
    }

    fn attempt_mut(&mut self, token: Token) -> Option<&mut Attempt> {
        match self.members.get_mut(token) {
            Some(Member::Attempt(attempt)) => Some(attempt),
            _ => None,
        }
    }
}

impl Attempt {
    pub(super) fn is_due(&self, at: Millis) -> bool {
        self.deadline == at && !self.told
    }
}

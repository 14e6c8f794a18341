//! The conclusions: after each step the kernel, the clock and the owner learn what changed.

use std::io;
use std::os::fd::AsRawFd;

use super::parting::Parting;
use super::{Engine, Member, Notice};
use crate::error::CloseReason;
use crate::poller::Interest;
use crate::stream::{Secure, Stream};
use crate::token::Token;

impl Engine {
    pub(super) fn stream(&self, token: Token) -> Option<&Stream> {
        match self.members.get(token) {
            Some(Member::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn stream_mut(&mut self, token: Token) -> Option<&mut Stream> {
        match self.members.get_mut(token) {
            Some(Member::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn with_stream<R>(
        &mut self,
        token: Token,
        act: impl FnOnce(&mut Stream) -> R,
    ) -> Option<R> {
        self.send_outbox_of(token);
        let stream = self.stream_mut(token)?;
        if !stream.state.is_open() {
            return None;
        }
        let result = act(stream);
        if !stream.is_settled() {
            self.settle(token);
        }
        Some(result)
    }

    /// Draws the conclusions from what was just done to a stream.
    #[inline]
    pub(super) fn settle(&mut self, token: Token) {
        let Some(Member::Stream(stream)) = self.members.get(token) else {
            return;
        };
        let flushes = stream.wants_flush() && !self.gathers(stream);
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        if flushes {
            stream.send_queue();
        }
        if stream.secure().is_some_and(Secure::take_pump) {
            return self.ask_for_pump(token);
        }
        if stream.is_over() {
            let reason = if stream.state.is_open() {
                CloseReason::Finished
            } else {
                CloseReason::Clean
            };
            return self.close(token, false, reason);
        }
        if let Some(error) = stream.take_broken() {
            return self.close_broken(token, error);
        }
        if stream.state.is_lingering() && !stream.told {
            if stream.closes_at_once() {
                return self.close(token, false, CloseReason::Clean);
            }
            self.tell(token, CloseReason::Clean);
        }
        self.update(token);
    }

    pub(super) fn ask_for_pump(&mut self, token: Token) {
        self.notices.push_back(Notice::Pump(token));
        if !self.in_turn() {
            self.set_alarm();
        }
        self.settle(token);
    }

    /// Brings the kernel's and the timers' view of a stream up to date.
    #[inline]
    pub(super) fn update(&mut self, token: Token) {
        let in_turn = self.in_turn();
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

    pub(super) fn sync(&mut self, token: Token) {
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

    pub(super) fn arm(&mut self, token: Token) {
        let now = self.present();
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        let Some(deadline) = stream.deadline(now) else {
            return;
        };
        if deadline < stream.armed {
            stream.armed = deadline;
            self.schedule(deadline, token);
        }
    }

    /// The connection broke, and no read will meet that.
    pub(super) fn close_broken(&mut self, token: Token, error: io::Error) {
        let had_ended = self.stream(token).is_some_and(Stream::had_ended);
        let reason = if had_ended {
            CloseReason::Finished
        } else {
            CloseReason::Io(error)
        };
        self.close(token, false, reason);
    }

    pub(super) fn close(&mut self, token: Token, reset: bool, reason: CloseReason) {
        self.send_outbox_of(token);
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        if stream.state.is_closed() {
            return;
        }
        let how = if reset {
            Parting::Reset
        } else {
            Parting::of(stream)
        };
        let reason = stream.reason_of_death(reason);
        let known = std::mem::replace(&mut stream.known, Interest::NONE);
        let (told, released) = (stream.told, stream.released);
        if let Some(fd) = stream.take_fd() {
            self.part(fd, known, how);
        }
        if !told {
            self.tell(token, reason);
        }
        if released {
            self.members.remove(token);
            self.note_leaving(token);
        }
        self.wake_starved();
    }

    /// Queues the one notice of the end.
    pub(super) fn tell(&mut self, token: Token, reason: CloseReason) {
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        stream.told = true;
        stream.endpoints();
        let referenced = std::mem::take(&mut stream.referenced);
        self.references -= usize::from(referenced);
        let has_finished = matches!(reason, CloseReason::Finished);
        self.notices.push_back(Notice::Closed(token, reason));
        self.end_partner(token, has_finished);
        if !self.in_turn() {
            self.set_alarm();
        }
    }

    pub(super) fn register(&mut self, token: Token) -> io::Result<()> {
        let (fd, known, wanted) = match self.members.get_mut(token) {
            Some(Member::Stream(s)) => match s.raw_fd() {
                Some(fd) => (fd, &mut s.known, Interest::READABLE),
                None => return Ok(()),
            },
            Some(Member::Listener(l)) => {
                let wanted = l.wanted();
                (l.fd.as_raw_fd(), &mut l.known, wanted)
            }
            Some(Member::Attempt(a)) => (a.raw_fd(), &mut a.known, Interest::WRITABLE),
            Some(Member::Greeting(_)) | None => return Ok(()),
        };
        let before = std::mem::replace(known, wanted);
        self.poller.admit(fd);
        self.poller.change(fd, token, before, wanted)
    }
}

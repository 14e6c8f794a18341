//! How descriptors leave: out of the queue, off the wire, and only then closed.
//!
//! Somebody else may hold the same open file: a `dup`, a forked process. Closing does nothing
//! then. The file would stay in the queue, from where nobody could take it any more, and report
//! without end; and the connection would go on until the last holder is gone.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process;

use super::{Engine, Member};
use crate::poller::Interest;
use crate::stream::Stream;
use crate::sys::net;
use crate::token::Token;

/// What the other end is to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parting {
    /// A RST.
    Reset,
    /// A FIN.
    Finish,
    /// Nothing: both ends have finished, or it is a listener, which others may share.
    Silent,
}

impl Parting {
    pub(super) fn of(stream: &Stream) -> Self {
        if stream.state.is_over() {
            Self::Silent
        } else {
            Self::Finish
        }
    }
}

impl Engine {
    pub(super) fn part(&self, fd: OwnedFd, known: Interest, how: Parting) {
        self.poller.dismiss(fd.as_raw_fd(), known);
        match how {
            // Only TCP knows a RST; the end of anything else is like any other.
            Parting::Reset if net::disconnect(fd.as_fd()).is_ok() => {}
            Parting::Reset | Parting::Finish => net::finish(fd.as_fd()),
            Parting::Silent => {}
        }
        drop(fd);
    }

    /// Removes a member and what it holds open.
    pub(super) fn dismiss(&mut self, token: Token) {
        match self.members.remove(token) {
            Some(Member::Stream(mut stream)) => {
                let how = Parting::of(&stream);
                if let Some(fd) = stream.take_fd() {
                    self.part(fd, stream.known, how);
                }
            }
            Some(Member::Attempt(attempt)) => {
                let known = attempt.known;
                self.part(attempt.into_fd(), known, Parting::Finish);
            }
            Some(Member::Greeting(greeting)) => {
                let (fd, _) = greeting.into_parts();
                self.part(fd, Interest::READABLE, Parting::Reset);
            }
            Some(Member::Listener(listener)) => {
                self.part(listener.fd, listener.known, Parting::Silent);
            }
            None => {}
        }
    }

    /// Begins anew in a forked child, which shares the queue and all open files with its parent:
    /// with a queue of its own, and with the listeners, if they are to stay. The rest is the
    /// parent's, and our copies are closed without a trace on the wire.
    pub fn begin_anew(&mut self, keep_listeners: bool) -> io::Result<()> {
        self.poller.renew()?;
        self.process = process::id();
        self.notices.clear();
        self.dirty.clear();
        self.resting.clear();
        self.guests.clear();
        self.pipes.conduit = None;
        self.alarm = None;
        self.references = 0;
        for token in self.members.tokens() {
            match self.members.get_mut(token) {
                Some(Member::Listener(listener)) if keep_listeners => {
                    listener.known = Interest::NONE;
                    if let Some(gate) = &mut listener.gate {
                        gate.clear();
                    }
                    self.references += usize::from(listener.referenced);
                    self.register(token)?;
                }
                _ => drop(self.members.remove(token)),
            }
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.process == process::id() {
            for token in self.members.tokens() {
                self.dismiss(token);
            }
        }
    }
}

//! What the engine asks of the selector: interests, readiness, waiting.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sys::{Events, Selector};
use crate::token::Token;

/// What a member wants to hear about. Errors and full hang-ups cannot be masked, so a member that
/// does not want even those (`NONE`) is taken out of the queue.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Interest {
    pub readable: bool,
    pub writable: bool,
    pub errors: bool,
}

impl Interest {
    pub const NONE: Interest = Interest {
        readable: false,
        writable: false,
        errors: false,
    };
    pub const READABLE: Interest = Interest {
        readable: true,
        writable: false,
        errors: true,
    };
    pub const WRITABLE: Interest = Interest {
        readable: false,
        writable: true,
        errors: true,
    };
}

/// What the kernel says of a member. `broken` (an error or a full hang-up) comes unasked; `failed`
/// are the errors among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::struct_excessive_bools)]
pub struct Ready {
    pub readable: bool,
    pub writable: bool,
    pub broken: bool,
    pub failed: bool,
}

/// Who an event is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A member of the engine.
    Member(Token),
    /// A descriptor that the surrounding event loop watches.
    Foreign(RawFd),
}

/// The readiness queue. It may be waited on while the engine is not borrowed, so that another
/// thread of the host language can run meanwhile.
pub struct Poller {
    selector: Selector,
    /// Which descriptors are members'.
    members: Mutex<Vec<bool>>,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        let selector = Selector::new()?;
        Ok(Self {
            selector,
            members: Mutex::default(),
        })
    }

    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.selector.wait(events, timeout)
    }

    pub fn add_foreign(&self, fd: RawFd, interest: Interest) -> io::Result<()> {
        self.selector.add(fd, interest, foreign_key(fd)?)
    }

    /// Ends the wait that is going on, or else the next one; for other threads.
    pub fn wake(&self) -> io::Result<()> {
        self.selector.wake()
    }

    // What the surrounding loop changes under a number that is a member's now was closed behind its
    // back: the member stays as it is.

    pub fn modify_foreign(&self, fd: RawFd, interest: Interest) -> io::Result<()> {
        if self.is_member(fd) {
            return Ok(());
        }
        self.selector.modify(fd, interest, foreign_key(fd)?)
    }

    pub fn remove_foreign(&self, fd: RawFd) -> io::Result<()> {
        if self.is_member(fd) {
            return Ok(());
        }
        self.selector.remove(fd)
    }

    pub fn is_member(&self, fd: RawFd) -> bool {
        let index = usize::try_from(fd).unwrap_or(usize::MAX);
        self.members().get(index).copied().unwrap_or_default()
    }

    /// The descriptor is a member's.
    pub(crate) fn admit(&self, fd: RawFd) {
        self.mark(fd, true);
    }

    /// Takes a member out of the queue; its descriptor is nobody's.
    pub(crate) fn dismiss(&self, fd: RawFd, known: Interest) {
        self.mark(fd, false);
        if known != Interest::NONE {
            // Fails where it never got in.
            let _ = self.selector.remove(fd);
        }
    }

    /// Parts from the queue that a forked process shares with its parent.
    pub(crate) fn renew(&self) -> io::Result<()> {
        self.members().clear();
        self.selector.renew()
    }

    pub(crate) fn set_alarm(&self, delay: Option<Duration>) -> io::Result<()> {
        self.selector.set_alarm(delay)
    }

    /// Hears of what comes to a member, once, also if it stays where it is.
    pub(crate) fn watch_arrivals(&self, fd: RawFd, token: Token) -> io::Result<()> {
        self.selector.add_edges(fd, token.key())
    }

    /// After that: hears of whatever is there.
    pub(crate) fn watch_all(&self, fd: RawFd, token: Token, wanted: Interest) -> io::Result<()> {
        self.selector.modify(fd, wanted, token.key())
    }

    /// Moves a member from the interest that the kernel knows to the one it has now.
    pub(crate) fn change(
        &self,
        fd: RawFd,
        token: Token,
        known: Interest,
        wanted: Interest,
    ) -> io::Result<()> {
        match (known == Interest::NONE, wanted == Interest::NONE) {
            (true, true) => Ok(()),
            (true, false) => self.selector.add(fd, wanted, token.key()),
            (false, true) => self.selector.remove(fd),
            (false, false) if known == wanted => Ok(()),
            (false, false) => self.selector.modify(fd, wanted, token.key()),
        }
    }

    fn mark(&self, fd: RawFd, member: bool) {
        let Ok(index) = usize::try_from(fd) else {
            return;
        };
        let mut members = self.members();
        if members.len() <= index {
            members.resize(index + 1, false);
        }
        members[index] = member;
    }

    fn members(&self) -> MutexGuard<'_, Vec<bool>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.selector.as_raw_fd()
    }
}

impl Events {
    /// Who the event at `index` is for; `None` for the queue's own.
    #[inline]
    pub fn target(&self, index: usize) -> Option<(Target, Ready)> {
        let (key, ready) = self.get(index)?;
        let target = match RawFd::try_from(key) {
            Ok(fd) => Target::Foreign(fd),
            Err(_) => Target::Member(Token::from_key(key)),
        };
        Some((target, ready))
    }

    /// Puts the events from `index` on of members that `come_last` behind all others. Returns where
    /// they begin.
    pub fn put_last(&mut self, index: usize, come_last: impl Fn(Token) -> bool) -> usize {
        self.sort_from(index, |key| come_last(Token::from_key(key)))
    }
}

fn foreign_key(fd: RawFd) -> io::Result<u64> {
    u64::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))
}

//! The selector contract on Linux: epoll, with a timerfd as its alarm, and an eventfd to be woken by.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::poller::{Interest, Ready};

/// How many events one wait can return; what is left over comes with the next.
const CAPACITY: usize = 256;

/// The alarm's own event carries this and is never shown to the caller. Tokens start at
/// generation 1 and foreign descriptors are below 2^32, so nothing else can have it.
const ALARM: u64 = u64::MAX;
/// As well that of whoever ends a wait.
const WAKER: u64 = u64::MAX - 1;

#[derive(Debug)]
pub struct Selector {
    epoll: OwnedFd,
    alarm: OwnedFd,
    waker: OwnedFd,
}

impl Selector {
    pub fn new() -> io::Result<Self> {
        let selector = Self {
            epoll: new_epoll()?,
            alarm: new_alarm()?,
            waker: new_waker()?,
        };
        selector.watch_own()?;
        Ok(selector)
    }

    /// Puts an empty queue, an alarm that is off and a waker in the place of the present ones.
    pub fn renew(&self) -> io::Result<()> {
        put_in_place_of(&self.epoll, &new_epoll()?)?;
        put_in_place_of(&self.alarm, &new_alarm()?)?;
        put_in_place_of(&self.waker, &new_waker()?)?;
        self.watch_own()
    }

    pub fn add(&self, fd: RawFd, interest: Interest, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, mask(interest), key)
    }

    /// Reports what comes in, and not again that it is there.
    #[allow(clippy::cast_sign_loss)]
    pub fn add_edges(&self, fd: RawFd, key: u64) -> io::Result<()> {
        let edges = (libc::EPOLLIN | libc::EPOLLET) as u32;
        self.control(libc::EPOLL_CTL_ADD, fd, edges, key)
    }

    pub fn modify(&self, fd: RawFd, interest: Interest, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, mask(interest), key)
    }

    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.len = 0;
        events.is_all = false;
        let timeout = timeout.map_or(-1, whole_milliseconds);
        // SAFETY: the buffer has room for CAPACITY events and outlives the call.
        let n = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                events.buffer.as_mut_ptr(),
                i32::try_from(CAPACITY).unwrap_or(i32::MAX),
                timeout,
            )
        };
        match usize::try_from(n) {
            Ok(n) => events.len = n,
            Err(_) => return Err(io::Error::last_os_error()),
        }
        events.is_all = events.len < CAPACITY;
        if events.buffer[..events.len].iter().any(|e| e.u64 == ALARM) {
            self.silence_alarm();
        }
        Ok(())
    }

    /// Makes the queue's own descriptor readable after `delay`; `None` calls the alarm off.
    pub fn set_alarm(&self, delay: Option<Duration>) -> io::Result<()> {
        // A zero timerfd value would disarm it, and "now" has to ring.
        let delay = delay.map_or(Duration::ZERO, |d| d.max(Duration::from_nanos(1)));
        let spec = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: libc::timespec {
                tv_sec: libc::time_t::try_from(delay.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: libc::c_long::from(delay.subsec_nanos().cast_signed()),
            },
        };
        // SAFETY: `spec` lives across the call, a null old value is allowed.
        check(unsafe {
            libc::timerfd_settime(
                self.alarm.as_raw_fd(),
                0,
                &raw const spec,
                std::ptr::null_mut(),
            )
        })
        .map(drop)
    }

    /// Ends a wait, the next one if there is none now.
    pub fn wake(&self) -> io::Result<()> {
        let one = 1u64;
        // SAFETY: eight bytes are what an eventfd takes.
        let written = unsafe {
            libc::write(
                self.waker.as_raw_fd(),
                (&raw const one).cast(),
                size_of::<u64>(),
            )
        };
        if written < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    #[allow(clippy::cast_sign_loss)]
    fn watch_own(&self) -> io::Result<()> {
        let add = libc::EPOLL_CTL_ADD;
        self.control(add, self.alarm.as_raw_fd(), libc::EPOLLIN as u32, ALARM)?;
        // Each write is an edge, whatever was written before: nobody has to read it back.
        let edges = (libc::EPOLLIN | libc::EPOLLET) as u32;
        self.control(add, self.waker.as_raw_fd(), edges, WAKER)
    }

    fn silence_alarm(&self) {
        let mut expirations = 0u64;
        // SAFETY: eight bytes are what a timerfd writes. A failure means that it has not gone off.
        unsafe {
            libc::read(
                self.alarm.as_raw_fd(),
                (&raw mut expirations).cast(),
                size_of::<u64>(),
            );
        }
    }

    fn control(&self, operation: i32, fd: RawFd, events: u32, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: key };
        // SAFETY: `event` lives across the call.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) })
            .map(drop)
    }
}

impl AsRawFd for Selector {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

/// The events of one wait, in a buffer that is used again for the next.
pub struct Events {
    buffer: Box<[libc::epoll_event]>,
    len: usize,
    is_all: bool,
}

impl Default for Events {
    fn default() -> Self {
        let empty = libc::epoll_event { events: 0, u64: 0 };
        Self {
            buffer: vec![empty; CAPACITY].into_boxed_slice(),
            len: 0,
            is_all: false,
        }
    }
}

impl Events {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the last wait has told everything: it came to its end, and there was room.
    pub fn is_all(&self) -> bool {
        self.is_all
    }

    /// Puts those of the events from `index` on whose key `comes_last` behind the others, and leaves
    /// the order as it is otherwise. Returns where they begin.
    pub fn sort_from(&mut self, index: usize, comes_last: impl Fn(u64) -> bool) -> usize {
        let rest = &mut self.buffer[index..self.len];
        rest.sort_by_cached_key(|event| comes_last(event.u64));
        index + rest.partition_point(|event| !comes_last(event.u64))
    }

    /// Leaves those from `index` on to the next wait, which tells of them again.
    pub fn forget_from(&mut self, index: usize) {
        self.len = self.len.min(index);
        self.is_all = false;
    }

    /// The event at `index`, or `None` where it was one of the selector's own.
    #[allow(clippy::cast_sign_loss)]
    pub fn get(&self, index: usize) -> Option<(u64, Ready)> {
        let event = self.buffer[..self.len].get(index)?;
        let (key, bits) = (event.u64, event.events);
        let has = |flags: i32| bits & flags as u32 != 0;
        (key < WAKER).then(|| {
            let ready = Ready {
                readable: has(libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR),
                writable: has(libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR),
                broken: has(libc::EPOLLHUP | libc::EPOLLERR),
                failed: has(libc::EPOLLERR),
            };
            (key, ready)
        })
    }
}

#[allow(clippy::cast_sign_loss)]
fn mask(interest: Interest) -> u32 {
    let mut mask = 0;
    if interest.readable {
        mask |= libc::EPOLLIN as u32;
    }
    if interest.writable {
        mask |= libc::EPOLLOUT as u32;
    }
    mask
}

fn new_epoll() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

fn new_alarm() -> io::Result<OwnedFd> {
    let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
    // SAFETY: the call takes no pointer.
    owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })
}

fn new_waker() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    owned(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })
}

/// Lets another open file have the number of a descriptor.
fn put_in_place_of(old: &OwnedFd, new: &OwnedFd) -> io::Result<()> {
    // SAFETY: `old` stays a descriptor of ours throughout; what it stood for is closed.
    check(unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
}

fn whole_milliseconds(timeout: Duration) -> i32 {
    let up = timeout.as_nanos().div_ceil(1_000_000);
    i32::try_from(up).unwrap_or(i32::MAX)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the kernel just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

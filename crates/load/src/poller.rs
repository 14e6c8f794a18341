//! Epoll, level-triggered, and nothing else.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A server that says nothing for so long has lost something.
const SILENCE_MS: i32 = 8_000;
const CAPACITY: usize = 1024;

#[derive(Clone, Copy)]
pub struct Event {
    /// What was given when the descriptor was watched.
    pub key: usize,
    pub readable: bool,
    pub writable: bool,
}

pub struct Poller {
    epoll: OwnedFd,
    buffer: Vec<libc::epoll_event>,
    events: Vec<Event>,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointer.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Self {
            // SAFETY: the descriptor is new and nobody else's.
            epoll: unsafe { OwnedFd::from_raw_fd(fd) },
            buffer: vec![libc::epoll_event { events: 0, u64: 0 }; CAPACITY],
            events: Vec::with_capacity(CAPACITY),
        })
    }

    pub fn add(&self, fd: RawFd, key: usize, output: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, key, output)
    }

    pub fn modify(&self, fd: RawFd, key: usize, output: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, key, output)
    }

    /// What is ready. An error when nothing is for long: something was lost.
    pub fn wait(&mut self) -> io::Result<&[Event]> {
        let room = i32::try_from(CAPACITY).unwrap_or(i32::MAX);
        // SAFETY: the buffer has room for CAPACITY events and outlives the call.
        let ready = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                self.buffer.as_mut_ptr(),
                room,
                SILENCE_MS,
            )
        };
        let ready = usize::try_from(check(ready)?).unwrap_or(0);
        if ready == 0 {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the server went silent with answers outstanding",
            ));
        }
        self.events.clear();
        self.events
            .extend(self.buffer[..ready].iter().map(|event| Event {
                key: usize::try_from(event.u64).unwrap_or(usize::MAX),
                readable: event.events & !libc::EPOLLOUT.cast_unsigned() != 0,
                writable: event.events & libc::EPOLLOUT.cast_unsigned() != 0,
            }));
        Ok(&self.events)
    }

    fn control(&self, operation: i32, fd: RawFd, key: usize, output: bool) -> io::Result<()> {
        let output = if output { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | output).cast_unsigned(),
            u64: key as u64,
        };
        // SAFETY: `event` lives across the call.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) })
            .map(drop)
    }
}

/// The CPU time of this process in seconds.
pub fn cpu_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` lives across the call. The clock exists wherever epoll does.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    let seconds = std::time::Duration::new(
        time.tv_sec.cast_unsigned(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    );
    seconds.as_secs_f64()
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

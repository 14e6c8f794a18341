//! One non-blocking attempt to connect.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::poller::Interest;
use crate::sys::net;
use crate::timers::Millis;

const FRESH: Type = Type::STREAM.nonblocking().cloexec();

/// A connection that the kernel is working on.
pub struct Attempt {
    pub(crate) socket: Socket,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) known: Interest,
    /// Nothing is left to wait for.
    pub(crate) connected: bool,
    /// Its owner knows how it went.
    pub(crate) told: bool,
    /// When it will have taken too long; `Millis::MAX` for never.
    pub(crate) deadline: Millis,
}

impl Attempt {
    /// Starts to connect; `bound` is a socket that already has its local address, and is ours now.
    pub fn tcp(remote: SocketAddr, bound: Option<RawFd>) -> io::Result<Self> {
        let socket = match bound {
            Some(fd) => Socket::from(net::own(fd)?),
            None => Socket::new(Domain::for_address(remote), FRESH, None)?,
        };
        if bound.is_some() {
            socket.set_nonblocking(true)?;
        }
        Self::start(socket, &remote.into(), Some(remote))
    }

    /// A path that begins with NUL is an abstract name. EAGAIN means that the listener's queue is
    /// full; the kernel will not say when there is room.
    pub fn unix(path: &[u8]) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, FRESH, None)?;
        let address = SockAddr::unix(Path::new(std::ffi::OsStr::from_bytes(path)))?;
        Self::start(socket, &address, None)
    }

    fn start(socket: Socket, to: &SockAddr, remote: Option<SocketAddr>) -> io::Result<Self> {
        let mut connected = ask(&socket, to)?;
        if !connected && remote.is_some() {
            // Between addresses of one machine the handshake is over by the time the first call
            // returns, though that one cannot say so yet. Elsewhere the question is cheap compared
            // with the way to the peer and back.
            connected = ask(&socket, to)?;
        }
        Ok(Self {
            socket,
            remote,
            known: Interest::NONE,
            connected,
            told: false,
            deadline: Millis::MAX,
        })
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Why the kernel reports it as broken.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        net::take_error(self.socket.as_fd())
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.socket.into()
    }
}

/// Starts to connect, or asks how that goes: whether it is done.
fn ask(socket: &Socket, to: &SockAddr) -> io::Result<bool> {
    match socket.connect(to) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            // Interrupted, it goes on all the same.
            Some(libc::EINPROGRESS | libc::EALREADY | libc::EINTR) => Ok(false),
            _ => Err(error),
        },
    }
}

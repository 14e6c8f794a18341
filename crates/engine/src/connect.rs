//! One non-blocking attempt to connect.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::poller::Interest;
use crate::sys::net;

/// A connection that the kernel is working on.
pub struct Attempt {
    pub(crate) socket: Socket,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) known: Interest,
}

impl Attempt {
    /// Starts to connect; `bound` is a socket that already has its local address, and is ours now.
    pub fn tcp(remote: SocketAddr, bound: Option<RawFd>) -> io::Result<Self> {
        let socket = match bound {
            Some(fd) => Socket::from(net::own(fd)?),
            None => Socket::new(Domain::for_address(remote), Type::STREAM.cloexec(), None)?,
        };
        Self::start(socket, &remote.into(), Some(remote))
    }

    /// A path that begins with NUL is an abstract name. EAGAIN means that the listener's queue is
    /// full; the kernel will not say when there is room.
    pub fn unix(path: &[u8]) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
        let address = SockAddr::unix(Path::new(std::ffi::OsStr::from_bytes(path)))?;
        Self::start(socket, &address, None)
    }

    fn start(socket: Socket, to: &SockAddr, remote: Option<SocketAddr>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        match socket.connect(to) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(Self {
                socket,
                remote,
                known: Interest::NONE,
            }),
        }
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Once the kernel has reported the attempt as ready: connected, or why not.
    pub(crate) fn outcome(&self) -> io::Result<()> {
        net::take_error(self.socket.as_fd()).map_or(Ok(()), Err)
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.socket.into()
    }
}

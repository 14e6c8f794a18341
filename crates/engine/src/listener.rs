//! A listening socket: accepting in portions, and waiting when descriptors run out.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use socket2::SockRef;

use crate::gate::{Gate, Limit};
use crate::greeting::ProxyPolicy;
use crate::poller::Interest;
use crate::stream::{Driver, Settings, apply_tcp_options};
use crate::sys::net;
use crate::timers::Millis;
use crate::tls::{Session, TlsConfig, TlsError};
use crate::token::Token;

/// How long a listener waits before it asks for descriptors again. Closing one of our own
/// sockets wakes it at once; this is for descriptors that others free.
pub(crate) const STARVED_RETRY: Millis = 100;

pub struct Listener {
    pub(crate) fd: OwnedFd,
    pub(crate) defaults: Arc<Settings>,
    /// New connections speak TLS.
    pub(crate) tls: Option<Acceptor>,
    /// New connections begin with a PROXY header.
    pub(crate) proxy: Option<Arc<ProxyPolicy>>,
    pub(crate) known: Interest,
    /// Descriptors ran out; accepting rests until some are free again.
    pub(crate) starved: bool,
    /// Its owner wants nobody accepted for now.
    pub(crate) paused: bool,
    /// Counts connections, where there is a limit to keep.
    pub(crate) gate: Option<Box<Gate>>,
    pub(crate) referenced: bool,
}

/// How new connections speak TLS.
#[derive(Clone)]
pub enum Acceptor {
    Native(Arc<TlsConfig>),
    /// The owner of the listener drives them.
    Foreign,
}

impl Acceptor {
    pub(crate) fn driver(&self) -> Result<Driver, TlsError> {
        match self {
            Self::Native(config) => Session::server(config).map(Driver::Native),
            Self::Foreign => Ok(Driver::Foreign),
        }
    }
}

/// What one call of `accept` found.
#[derive(Debug)]
pub enum Accepted {
    Stream(Token),
    /// There were enough of that host: it got a RST.
    Refused,
    /// A limit is reached. Accepting goes on by itself once it can.
    AtLimit(Limit),
    /// It is to introduce itself first; `Notice::Greeted` follows.
    Greeting(Token),
    /// Nobody waits.
    Empty,
    /// No descriptor or memory is left. True for the first time in one shortage.
    Starved(io::Error, bool),
    /// The listening socket itself is broken or gone.
    Failed(io::Error),
}

impl Listener {
    pub fn new(fd: OwnedFd, defaults: Arc<Settings>, tls: Option<Acceptor>) -> Self {
        Self {
            fd,
            defaults,
            tls,
            proxy: None,
            known: Interest::NONE,
            starved: false,
            paused: false,
            gate: None,
            referenced: true,
        }
    }

    pub(crate) fn wanted(&self) -> Interest {
        if self.paused || self.gate.as_ref().is_some_and(|gate| gate.is_shut()) {
            Interest::NONE
        } else {
            Interest::READABLE
        }
    }

    /// Options set on a listening socket are inherited by every connection that the kernel makes
    /// from it, which saves a call for each.
    pub fn prepare(fd: &OwnedFd, defaults: &Settings) -> io::Result<()> {
        let socket = SockRef::from(fd);
        socket.set_nonblocking(true)?;
        if socket.local_addr()?.as_socket().is_some() {
            apply_tcp_options(fd, defaults)?;
        }
        Ok(())
    }

    pub fn accept(&mut self) -> Result<(OwnedFd, Option<SocketAddr>), Accepted> {
        loop {
            match net::accept(self.fd.as_fd()) {
                Ok((fd, remote)) => return Ok((fd, remote.as_socket())),
                Err(error) => match error.raw_os_error() {
                    // The peer gave up while it waited in the queue: the next one, please. The
                    // network errors are those of a pending connection, as accept(2) says.
                    Some(
                        libc::EINTR
                        | libc::ECONNABORTED
                        | libc::EPROTO
                        | libc::ENETDOWN
                        | libc::ENOPROTOOPT
                        | libc::EHOSTDOWN
                        | libc::ENONET
                        | libc::EHOSTUNREACH
                        | libc::ENETUNREACH
                        | libc::ETIMEDOUT,
                    ) => {}
                    Some(libc::EAGAIN) => {
                        self.starved = false;
                        return Err(Accepted::Empty);
                    }
                    // What forbids it (EPERM: a firewall, a security module) may change its mind.
                    Some(
                        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EPERM,
                    ) => {
                        return Err(Accepted::Starved(error, !self.starved));
                    }
                    _ => return Err(Accepted::Failed(error)),
                },
            }
        }
    }
}

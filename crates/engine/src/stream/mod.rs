//! A connection: descriptor, state, queue.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use crate::buffer::SendQueue;
use crate::packet::Framing;
use crate::poller::Interest;
use crate::state::State;
use crate::sys::net;
use crate::timers::{Millis, millis};
use crate::tls::TlsError;

use acknowledged::Acknowledged;

mod acknowledged;
mod deadlines;
mod options;
mod packets;
mod secure;
mod sending;
mod splicing;
mod writing;

pub use options::{apply_tcp_options, prepare, set_keep_alive};
pub use packets::{NextPacket, Packets, Waiting};
pub use secure::{Driver, Outgoing, Pumped, Scratch, Secure};

/// Bytes gathered under a cork before they are sent all the same.
const CORK_SIZE: usize = 64 * 1024;
/// Bytes that TLS seals before it sends them. A peer that is faster than we are waits for each of
/// our sends, and to wake it costs more than to send.
pub(crate) const LOAD: usize = 4 * CORK_SIZE;
/// Bytes of files that one connection gets sent in one go, before others have their turn.
const FILE_BUDGET: usize = 1024 * 1024;

/// What a connection is made with; shared by all connections of a listener.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)]
pub struct Settings {
    pub allow_half_open: bool,
    pub no_delay: bool,
    pub keep_alive: Option<Duration>,
    /// A peer that answers nothing for so long is gone.
    pub dead_after: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub handshake_timeout: Option<Duration>,
    pub close_timeout: Option<Duration>,
    pub write_limit: usize,
    pub packet: Framing,
    /// The longest packet that is received.
    pub packet_size: usize,
    /// Nobody else may bind the local port.
    pub exclusive: bool,
    /// Its owner is an asyncio transport: it is read from once that asks for it, has all the time
    /// it wants to send what it accepted, and a send that fails ends it at once.
    pub transport: bool,
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    Accepted(usize),
    /// The write side is finished or the connection is gone.
    Closed,
    /// No longer packet can be told to the peer.
    TooLong {
        longest: usize,
    },
}

/// What a read found.
#[derive(Debug)]
pub enum Received {
    /// So many bytes; with `more`, there is something else to read right behind them.
    Data {
        n: usize,
        more: bool,
    },
    /// The peer's FIN, or its `close_notify`.
    Fin,
    Nothing,
    Failed(io::Error),
    /// The TLS handshake is done.
    Established,
    /// So many bytes for a foreign driver of TLS; with `more`, there may be more behind them.
    Ciphertext {
        n: usize,
        more: bool,
    },
    /// The TLS session cannot go on.
    Broken(TlsError),
}

/// Where a connection begins and ends; `None` for unix sockets.
#[derive(Clone, Copy, Default, Debug)]
pub struct Endpoints {
    pub local: Option<SocketAddr>,
    pub remote: Option<SocketAddr>,
}

#[allow(clippy::struct_excessive_bools)]
pub struct Stream {
    fd: Option<OwnedFd>,
    pub state: State,
    queue: SendQueue,
    secure: Option<Box<Secure>>,
    packets: Option<Box<Packets>>,
    pub settings: Arc<Settings>,
    endpoints: Endpoints,
    /// A send found the connection broken. Reading ends with this error, behind what had arrived.
    broken: Option<i32>,
    /// Bytes of the owner's were not sent because of that.
    lost_bytes: bool,
    corks: u32,
    /// So much is gathered within a turn before it is sent.
    gather_limit: u32,
    /// `drain` is due when so little has to wait.
    low_water: usize,
    /// The kernel would not take the head of the queue.
    refused: bool,
    /// A write was short, or `write_all` had to queue: the owner is to get `drain`.
    drain_owed: bool,
    /// The owner saw that bytes wait: it is to get `drain` even if it writes no more.
    drain_promised: bool,
    /// `write_all` took something that is only gathered yet: if the kernel refuses any of it,
    /// `drain` is owed.
    drain_if_refused: bool,
    /// The owner follows what is sent.
    pub watch_sends: bool,
    /// The kernel reports a hang-up that is not to be acted on yet.
    hung: bool,
    /// It broke while the owner was busy, who was told that.
    lost: bool,
    /// The kernel is short of memory for it: it is asked again later, and meanwhile for nothing.
    short: bool,
    /// Bytes moved since the engine last looked.
    active: bool,
    /// The close timeout is running.
    ending: bool,
    idle: Millis,
    /// The idle time is to begin anew, without a byte having moved.
    restarts_idle: bool,
    idle_since: Millis,
    last_activity: Millis,
    acknowledged: Acknowledged,
    pub bytes_read: u64,
    /// Bytes in the kernel, as they go over the wire.
    pub sent: u64,

    // The engine's notes about this member.
    pub known: Interest,
    /// The earliest entry in the timer heap; `Millis::MAX` without one.
    pub armed: Millis,
    pub dirty: bool,
    pub referenced: bool,
    /// The owner will be told, or has been told, that it is closed.
    pub told: bool,
    /// The owner has let go of the slot.
    pub released: bool,
}

impl Stream {
    pub fn new(fd: OwnedFd, remote: Option<SocketAddr>, settings: Arc<Settings>) -> Self {
        let mut state = State::new(settings.allow_half_open);
        state.paused = settings.transport;
        Self {
            fd: Some(fd),
            state,
            queue: SendQueue::default(),
            secure: None,
            packets: Packets::new(settings.packet, settings.packet_size),
            endpoints: Endpoints {
                local: None,
                remote,
            },
            broken: None,
            lost_bytes: false,
            corks: 0,
            gather_limit: 0,
            low_water: 0,
            refused: false,
            drain_owed: false,
            drain_promised: false,
            drain_if_refused: false,
            watch_sends: false,
            hung: false,
            lost: false,
            short: false,
            active: true,
            ending: false,
            idle: settings.idle_timeout.map_or(0, millis),
            restarts_idle: false,
            idle_since: 0,
            last_activity: 0,
            acknowledged: Acknowledged::default(),
            bytes_read: 0,
            sent: 0,
            known: Interest::NONE,
            armed: Millis::MAX,
            dirty: false,
            referenced: true,
            told: false,
            released: false,
            settings,
        }
    }

    /// Its deadlines count from now on.
    pub fn set_settings(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// The descriptor, as long as the connection is its owner's.
    pub fn raw_fd(&self) -> Option<RawFd> {
        self.fd.as_ref().map(AsRawFd::as_raw_fd)
    }

    pub fn borrow_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    pub fn endpoints(&mut self) -> Endpoints {
        if let (None, Some(fd)) = (self.endpoints.local, &self.fd) {
            let local = SockRef::from(fd).local_addr();
            self.endpoints.local = local.ok().and_then(|address| address.as_socket());
        }
        self.endpoints
    }

    pub fn is_tcp(&self) -> bool {
        self.endpoints.remote.is_some()
    }

    /// Bytes accepted and not in the kernel yet.
    pub fn queued(&self) -> usize {
        self.queue.len() + self.gathered()
    }

    /// Those of them that have to wait: for the kernel, or for the handshake. What is gathered until
    /// the turn or the cork ends is as good as sent, unless a foreign driver has not come to it, or a
    /// file goes first.
    pub fn buffered(&self) -> usize {
        if self.refused {
            return self.queued();
        }
        match &self.secure {
            Some(it) if self.is_handshaking() || it.waits_for_turn() => it.gathered(),
            _ => 0,
        }
    }

    /// Whether a reset would destroy bytes that were accepted and have not even left.
    pub fn has_unsent(&self) -> bool {
        self.queued() > 0 || self.borrow_fd().is_some_and(|fd| net::unsent(fd) > 0)
    }

    /// What `buffered` says, to somebody who may wait until it is nothing.
    pub fn show_buffered(&mut self) -> usize {
        let buffered = self.buffered();
        self.drain_promised |= buffered > 0;
        buffered
    }

    /// `drain` is owed as soon as there is little enough.
    pub fn promise_drain(&mut self) {
        self.drain_promised = true;
    }

    fn gathered(&self) -> usize {
        self.secure.as_ref().map_or(0, |secure| secure.gathered())
    }

    /// Bytes of the application that were sent.
    pub fn bytes_written(&self) -> u64 {
        self.secure
            .as_ref()
            .map_or(self.sent, |secure| secure.sealed)
    }

    /// How many bytes will have been sent when all that was accepted has been. Unknown before a
    /// handshake, whose own bytes come first.
    pub fn goal(&mut self) -> u64 {
        self.seal();
        if self.queue.len() < self.queued() {
            return u64::MAX;
        }
        self.sent + self.queue.len() as u64
    }

    pub fn receive(&mut self, buffer: &mut [u8], scratch: &mut Scratch) -> Received {
        if self.secure.is_some() && self.state.is_open() {
            return self.receive_secure(buffer, scratch);
        }
        let Some(fd) = &self.fd else {
            return Received::Nothing;
        };
        match net::recv(fd.as_fd(), buffer) {
            Ok(0) => match take_cause(&mut self.broken) {
                Some(error) => Received::Failed(error),
                None => Received::Fin,
            },
            Ok(n) => {
                // Whoever only swallows late input does not wait longer for it.
                self.active |= !self.state.is_lingering();
                let more = n == buffer.len();
                Received::Data { n, more }
            }
            Err(error) if would_block(&error, &mut self.short) => Received::Nothing,
            Err(error) => Received::Failed(take_cause(&mut self.broken).unwrap_or(error)),
        }
    }

    /// Throws away what has arrived, so that closing does not turn into a RST.
    pub fn swallow(&mut self, buffer: &mut [u8]) {
        if let Some(fd) = &self.fd {
            while matches!(net::recv(fd.as_fd(), buffer), Ok(1..)) {}
        }
    }

    pub fn set_paused(&mut self, paused: bool) {
        if self.state.is_open() {
            self.state.paused = paused;
            self.hung = false;
        }
    }

    pub fn set_held(&mut self, held: bool) {
        self.state.held = held;
        self.hung = false;
    }

    /// Input is taken from the kernel. Being paused is about what the peer's application sends:
    /// a handshake goes on, and is announced.
    pub fn wants_input(&self) -> bool {
        if self.state.wants_input() {
            return true;
        }
        let Some(secure) = &self.secure else {
            return false;
        };
        let announces = secure.has_news() && !self.state.held;
        (self.is_handshaking() || announces) && !self.state.read_ended()
    }

    /// Whether its owner still sends, and wants all that comes.
    pub fn goes_both_ways(&self) -> bool {
        let reads = self.state.delivers() || self.state.read_ended();
        reads && self.state.accepts_writes() && self.broken.is_none()
    }

    /// Whether it ends by itself. asyncio's transports stay until they are closed.
    pub fn is_over(&self) -> bool {
        self.state.is_over() && !(self.settings.transport && self.state.is_open())
    }

    /// Whether it does not linger: asyncio closes its sockets, and late input gets a RST.
    pub fn closes_at_once(&self) -> bool {
        self.settings.transport && self.secure.is_none()
    }

    /// Whether it is asyncio's: left without a reset, whatever is on its way, and in no hurry.
    pub fn is_transport(&self) -> bool {
        self.settings.transport
    }

    /// The kernel reports an error or a full hang-up. Returns it where no read will meet it, unless
    /// that is left to the next write.
    pub fn on_hang_up(&mut self, waits_to_send: bool) -> Option<io::Error> {
        if self.wants_input() {
            return None;
        }
        if !self.state.read_ended() || self.settings.transport || waits_to_send {
            // Paused: it is told after resume(), behind the data. And asyncio learns it from the
            // next write. Until then the kernel would report it without end.
            self.hung = true;
            return None;
        }
        let known = self.borrow_fd().and_then(net::take_error);
        Some(known.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ECONNRESET)))
    }

    /// The same while the owner is busy. Whether the connection is lost: it is not where a read is
    /// going to meet that, nor where both sides have just finished.
    pub fn note_hang_up(&mut self, failed: bool) -> bool {
        self.lost |= self.hung && failed;
        self.hung && (failed || !self.state.fin_sent())
    }

    /// Whether all that its owner will hear of it is that it broke.
    pub fn is_doomed(&self) -> bool {
        self.lost && !self.state.paused
    }
}

/// What a send found, which is why reading finds nothing more.
fn take_cause(broken: &mut Option<i32>) -> Option<io::Error> {
    broken.take().map(io::Error::from_raw_os_error)
}

/// Not now: there is nothing or no room, or the kernel is short of memory for a moment.
fn would_block(error: &io::Error, short: &mut bool) -> bool {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => true,
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            // All the while it says that the socket is ready.
            *short = true;
            true
        }
        _ => false,
    }
}

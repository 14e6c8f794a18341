//! A connection: descriptor, state, queue.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::buffer::SendQueue;
use crate::error::WriteAllError;
use crate::poller::Interest;
use crate::state::{Input, State};
use crate::sys::net;
use crate::timers::{Millis, millis};
use crate::tls::TlsError;

mod secure;

pub use secure::{Driver, Outgoing, Pumped, Scratch, Secure};

/// Bytes gathered under a cork before they are sent all the same.
const CORK_SIZE: usize = 64 * 1024;

/// What a connection is made with; shared by all connections of a listener.
#[derive(Clone, Debug)]
pub struct Settings {
    pub allow_half_open: bool,
    pub no_delay: bool,
    pub keep_alive: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub handshake_timeout: Option<Duration>,
    pub close_timeout: Option<Duration>,
    pub write_limit: usize,
    /// Nobody else may bind the local port.
    pub exclusive: bool,
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    Accepted(usize),
    /// The write side is finished or the connection is gone.
    Closed,
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
    /// So many bytes for a foreign driver of TLS.
    Ciphertext(usize),
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
    settings: Arc<Settings>,
    endpoints: Endpoints,
    /// A send found the connection broken. Reading ends with this error, behind what had arrived.
    broken: Option<i32>,
    corks: u32,
    /// A write was short, or `write_all` had to queue: the owner waits for `drain`.
    drain_owed: bool,
    /// `write_all` took something that is not sealed yet: if the kernel leaves any of it, `drain`
    /// is owed.
    drain_if_left: bool,
    /// The owner follows what is sent.
    pub watch_sends: bool,
    /// The kernel reports a hang-up that is not to be acted on yet.
    hung: bool,
    /// Bytes moved since the engine last looked.
    active: bool,
    /// The close timeout is running.
    ending: bool,
    idle: Millis,
    /// The idle time is to begin anew, without a byte having moved.
    restarts_idle: bool,
    idle_since: Millis,
    last_activity: Millis,
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
        Self {
            fd: Some(fd),
            state: State::new(settings.allow_half_open),
            queue: SendQueue::default(),
            secure: None,
            endpoints: Endpoints {
                local: None,
                remote,
            },
            broken: None,
            corks: 0,
            drain_owed: false,
            drain_if_left: false,
            watch_sends: false,
            hung: false,
            active: true,
            ending: false,
            idle: settings.idle_timeout.map_or(0, millis),
            restarts_idle: false,
            idle_since: 0,
            last_activity: 0,
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

    /// Bytes accepted and not in the kernel yet.
    pub fn queued(&self) -> usize {
        let gathered = self.secure.as_ref().map_or(0, |secure| secure.gathered());
        self.queue.len() + gathered
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

    // Reading

    pub fn receive(&mut self, buffer: &mut [u8], scratch: &mut Scratch) -> Received {
        if self.secure.is_some() && self.state.is_open() {
            return self.receive_secure(buffer, scratch);
        }
        let Some(fd) = &self.fd else {
            return Received::Nothing;
        };
        match net::recv(fd.as_fd(), buffer) {
            Ok(0) => match self.broken.take() {
                Some(errno) => Received::Failed(io::Error::from_raw_os_error(errno)),
                None => Received::Fin,
            },
            Ok(n) => {
                // Whoever only swallows late input does not wait longer for it.
                self.active |= !self.state.is_lingering();
                let more = n == buffer.len();
                Received::Data { n, more }
            }
            Err(error) if would_block(&error) => Received::Nothing,
            Err(error) => Received::Failed(error),
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

    /// The kernel reports an error or a full hang-up. Returns it where no read will meet it.
    pub fn on_hang_up(&mut self) -> Option<io::Error> {
        if self.state.wants_input() {
            return None;
        }
        if !self.state.read_ended() {
            // Paused: it is told after resume(), behind the data. Until then the kernel would
            // report it without end.
            self.hung = true;
            return None;
        }
        let known = self.borrow_fd().and_then(net::take_error);
        Some(known.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ECONNRESET)))
    }

    // Writing

    pub fn write(&mut self, data: &[u8]) -> Written {
        if !self.can_write() {
            return Written::Closed;
        }
        if self.secure.is_some() {
            return self.write_secure(data);
        }
        if self.corks > 0 {
            return self.write_corked(data);
        }
        if data.is_empty() {
            return Written::Accepted(0);
        }
        let sent = if self.queue.is_empty() {
            self.send(data)
        } else {
            0
        };
        if self.broken.is_some() {
            return Written::Closed;
        }
        self.drain_owed |= sent < data.len();
        Written::Accepted(sent)
    }

    /// Gathers what fits under the cork; behind bytes that the kernel refused, nothing is taken.
    fn write_corked(&mut self, data: &[u8]) -> Written {
        let mut taken = 0;
        while taken < data.len() {
            if self.queue.len() >= CORK_SIZE {
                self.send_queue();
                if self.broken.is_some() {
                    return Written::Closed;
                }
                if !self.queue.is_empty() {
                    self.drain_owed = true;
                    break;
                }
            }
            let n = (CORK_SIZE - self.queue.len()).min(data.len() - taken);
            self.queue.push(&data[taken..taken + n]);
            taken += n;
        }
        Written::Accepted(taken)
    }

    pub fn write_all(&mut self, data: &[u8]) -> Result<(), WriteAllError> {
        self.accept(data)?;
        if self.wants_flush() {
            self.drain_if_left = true;
        } else {
            self.drain_owed |= self.queued() > 0;
        }
        Ok(())
    }

    /// Takes the last bytes; our FIN follows them.
    pub fn end(&mut self, data: &[u8]) -> Result<(), WriteAllError> {
        self.accept(data)?;
        self.apply(Input::End);
        Ok(())
    }

    /// Takes everything or nothing.
    fn accept(&mut self, data: &[u8]) -> Result<(), WriteAllError> {
        if !self.can_write() {
            return Err(WriteAllError::Closed);
        }
        let (queued, limit) = (self.queued(), self.settings.write_limit);
        // The overhead of TLS may have gone over the limit: that is no reason not to end.
        if !data.is_empty() && queued.saturating_add(data.len()) > limit {
            return Err(WriteAllError::OverLimit { queued, limit });
        }
        if self.secure.is_some() {
            self.accept_secure(data);
            return Ok(());
        }
        let mut sent = 0;
        if self.queue.is_empty() && self.corks == 0 && !data.is_empty() {
            sent = self.send(data);
        }
        if self.broken.is_none() {
            self.queue.push(&data[sent..]);
        }
        if self.corks > 0 && self.queue.len() >= CORK_SIZE {
            self.send_queue();
        }
        Ok(())
    }

    pub fn apply(&mut self, input: Input) {
        self.state.apply(input);
        self.send_queue();
    }

    pub fn cork(&mut self) {
        self.corks += 1;
    }

    pub fn uncork(&mut self) {
        self.corks = self.corks.saturating_sub(1);
        if self.corks == 0 {
            self.send_queue();
        }
    }

    /// Sends what the kernel takes of the queue and, behind its last byte, the FIN that is owed.
    pub fn send_queue(&mut self) {
        let may_finish = self.seal();
        while !self.queue.is_empty() {
            let Some(fd) = &self.fd else { return };
            let (slices, n) = self.queue.slices();
            let result = match &slices[..n] {
                [only] => net::send(fd.as_fd(), only),
                several => net::send_vectored(fd.as_fd(), several),
            };
            match result {
                Ok(sent) => {
                    self.queue.consume(sent);
                    self.sent += sent as u64;
                    self.active = true;
                }
                Err(error) if would_block(&error) => break,
                Err(error) => self.break_off(&error),
            }
        }
        let left = !self.queue.is_empty();
        if self.drain_if_left && !self.wants_flush() {
            self.drain_if_left = false;
            self.drain_owed |= left;
        }
        if may_finish && !left && self.state.owes_fin() && self.broken.is_none() {
            self.send_fin();
        }
    }

    /// Whether `drain` is due: room was waited for, and the queue is empty. Whoever paused until
    /// then has to be told also if the connection broke: its end is only met by reading on.
    pub fn take_drain(&mut self) -> bool {
        let worth = self.can_write() || (self.broken.is_some() && self.state.paused);
        let due = self.drain_owed && self.queued() == 0 && worth && !self.is_handshaking();
        if due {
            self.drain_owed = false;
        }
        due
    }

    fn can_write(&self) -> bool {
        let dead = self.secure.as_ref().is_some_and(|secure| secure.is_dead());
        self.state.accepts_writes() && self.broken.is_none() && !dead
    }

    fn send(&mut self, data: &[u8]) -> usize {
        let Some(fd) = &self.fd else { return 0 };
        match net::send(fd.as_fd(), data) {
            Ok(n) => {
                self.sent += n as u64;
                self.active = true;
                n
            }
            Err(error) => {
                if !would_block(&error) {
                    self.break_off(&error);
                }
                0
            }
        }
    }

    /// A send failed for good. What the peer had sent before is still to be read, so the
    /// connection ends on the reading side, where this error takes the place of the FIN.
    fn break_off(&mut self, error: &io::Error) {
        self.broken = Some(error.raw_os_error().unwrap_or(libc::EPIPE));
        self.queue.clear();
        if let Some(secure) = &mut self.secure {
            secure.forget_gathered();
        }
        self.drain_owed &= self.state.paused;
    }

    /// A send failed: nothing more goes out, and what was queued is lost.
    pub fn broken(&self) -> Option<io::Error> {
        self.broken.map(io::Error::from_raw_os_error)
    }

    /// The error of a broken connection that no read can meet any more.
    pub fn take_broken(&mut self) -> Option<io::Error> {
        if self.state.read_ended() && !self.state.is_closed() {
            return self.broken.take().map(io::Error::from_raw_os_error);
        }
        None
    }

    fn send_fin(&mut self) {
        // Behind the peer's FIN, close(2) sends ours: one call less. An error here means that the
        // connection broke meanwhile; the reading side meets it.
        if let (false, Some(fd)) = (self.state.read_ended(), &self.fd) {
            let socket = SockRef::from(fd);
            if self.settings.exclusive {
                // Whoever finishes first leaves the port in TIME_WAIT. The kernel's leftover keeps
                // this option, and without it would stop the next bind, ours included.
                let _ = socket.set_reuse_address(true);
            }
            let _ = socket.shutdown(std::net::Shutdown::Write);
        }
        self.state.apply(Input::FinSent);
    }

    /// Lets go of the descriptor; dropping it closes it, after a reset with a RST.
    pub fn take_fd(&mut self, reset: bool) -> Option<OwnedFd> {
        self.endpoints();
        self.queue.clear();
        self.drain_owed = false;
        self.state.apply(Input::Gone);
        let fd = self.fd.take()?;
        if reset {
            // Fails where there is nothing to reset, as in a unix socket.
            let _ = net::reset_on_close(fd.as_fd());
        }
        Some(fd)
    }

    // Readiness and time

    pub fn wanted(&self) -> Interest {
        if self.fd.is_none() {
            return Interest::NONE;
        }
        // A cork holds nothing back once our FIN is owed.
        let sending = !self.queue.is_empty() && (self.corks == 0 || self.state.owes_fin());
        // Before the handshake is done there is nothing to write, though the kernel has room.
        let waiting = (self.drain_owed || self.watch_sends) && !self.is_handshaking();
        Interest {
            readable: self.state.wants_input(),
            writable: (sending || waiting) && self.broken.is_none(),
            errors: !self.hung,
        }
    }

    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.idle = timeout.map_or(0, millis);
        self.restarts_idle = true;
    }

    /// The idle time begins anew. That is no progress in closing.
    pub fn restart_idle(&mut self) {
        self.restarts_idle = true;
    }

    /// Whether something was gathered that nothing holds back any more.
    pub fn wants_flush(&self) -> bool {
        self.corks == 0
            && self
                .secure
                .as_ref()
                .is_some_and(|secure| secure.wants_flush())
    }

    pub fn is_timed(&self) -> bool {
        self.idle > 0 || self.state.must_end_soon() || self.is_handshaking()
    }

    /// Dates what happened since the last call, and returns the next deadline.
    pub fn deadline(&mut self, now: Millis) -> Option<Millis> {
        let ending = self.state.must_end_soon();
        if self.active || self.restarts_idle {
            self.restarts_idle = false;
            self.idle_since = now;
        }
        if self.active || ending != self.ending {
            self.active = false;
            self.ending = ending;
            self.last_activity = now;
        }
        if let (Some(secure), Some(timeout)) = (&mut self.secure, self.settings.handshake_timeout) {
            secure.start_clock(now.saturating_add(millis(timeout)));
        }
        let deadlines = [
            self.idle_deadline(),
            self.close_deadline(),
            self.handshake_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    pub fn idle_deadline(&self) -> Option<Millis> {
        let running = self.idle > 0 && self.state.is_open() && !self.is_handshaking();
        running.then(|| self.idle_since.saturating_add(self.idle))
    }

    pub fn handshake_deadline(&self) -> Option<Millis> {
        let secure = self.secure.as_ref()?;
        if self.state.is_open() {
            secure.handshake_deadline()
        } else {
            None
        }
    }

    pub fn close_deadline(&self) -> Option<Millis> {
        let timeout = self.settings.close_timeout?;
        let running = self.state.must_end_soon();
        running.then(|| self.last_activity.saturating_add(millis(timeout)))
    }
}

/// Makes a connected descriptor ours to use; tells who is at the other end.
pub fn prepare(fd: &OwnedFd, settings: &Settings) -> io::Result<Option<SocketAddr>> {
    let socket = SockRef::from(fd);
    let remote = socket.peer_addr()?.as_socket();
    socket.set_nonblocking(true)?;
    apply_tcp_options(fd, settings)?;
    Ok(remote)
}

/// `TCP_NODELAY` and keep-alive; sockets of other families have neither.
pub fn apply_tcp_options(fd: &OwnedFd, settings: &Settings) -> io::Result<()> {
    let socket = SockRef::from(fd);
    if !matches!(
        socket.domain()?,
        socket2::Domain::IPV4 | socket2::Domain::IPV6
    ) {
        return Ok(());
    }
    if settings.no_delay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(delay) = settings.keep_alive {
        set_keep_alive(&socket, true, delay)?;
    }
    Ok(())
}

/// Keep-alive with this idle time before the first probe; zero leaves the system's.
pub fn set_keep_alive(socket: &SockRef<'_>, enable: bool, delay: Duration) -> io::Result<()> {
    if enable && !delay.is_zero() {
        // The kernel counts whole seconds, from 1 to 32767.
        let whole = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        let delay = Duration::from_secs(whole.min(32767));
        return socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(delay));
    }
    socket.set_keepalive(enable)
}

/// Not now: no room, or the kernel is short of memory for a moment.
fn would_block(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM)
    )
}

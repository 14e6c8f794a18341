//! How bytes reach the kernel, what it means when they do not, and what follows the last one.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use socket2::SockRef;

use super::{FILE_BUDGET, Stream, take_cause, would_block};
use crate::state::Input;
use crate::sys::net;

impl Stream {
    /// Sends what the kernel takes of the queue and, behind its last byte, the FIN that is owed.
    pub fn send_queue(&mut self) {
        let may_finish = self.seal();
        self.send_sealed(may_finish);
        self.go_on_with_file();
    }

    pub(super) fn send_sealed(&mut self, may_finish: bool) {
        let mut budget = FILE_BUDGET;
        while !self.queue.is_empty() {
            if self.queue.file().is_some() {
                if self.send_queued_file(&mut budget) {
                    continue;
                }
                break;
            }
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
                Err(error) if would_block(&error, &mut self.short) => break,
                Err(error) => self.break_off(&error),
            }
        }
        self.refused = !self.queue.is_empty();
        if self.drain_if_refused {
            self.drain_owed |= self.refused;
            self.drain_if_refused = self.gathered() > 0;
        }
        if may_finish && !self.refused && self.state.owes_fin() && self.broken.is_none() {
            self.send_fin();
        }
    }

    /// Sends from the file at the head of the queue. False if that is all for now.
    #[cold]
    fn send_queued_file(&mut self, budget: &mut usize) -> bool {
        let (Some(fd), Some((file, done))) = (&self.fd, self.queue.file()) else {
            return false;
        };
        let missing = file.count() - done;
        let result = match *budget {
            0 => return false,
            most => file.send(fd.as_fd(), done, most),
        };
        match result {
            // There is no more of it than that.
            Ok(0) => self.queue.consume(missing),
            Ok(n) => {
                self.queue.consume(n);
                self.sent += n as u64;
                self.active = true;
                *budget -= n;
            }
            Err(error) if would_block(&error, &mut self.short) => return false,
            Err(error) => self.break_off(&error),
        }
        true
    }

    pub(super) fn send(&mut self, data: &[u8]) -> usize {
        let Some(fd) = &self.fd else { return 0 };
        let result = net::send(fd.as_fd(), data);
        self.note_sent(result)
    }

    pub(super) fn send_pieces(&mut self, pieces: &[IoSlice<'_>]) -> usize {
        let Some(fd) = &self.fd else { return 0 };
        let result = match pieces {
            [only] => net::send(fd.as_fd(), only),
            several => net::send_vectored(fd.as_fd(), several),
        };
        self.note_sent(result)
    }

    #[inline]
    pub(super) fn note_sent(&mut self, result: io::Result<usize>) -> usize {
        match result {
            Ok(n) => {
                self.sent += n as u64;
                self.active = true;
                n
            }
            Err(error) => {
                if !would_block(&error, &mut self.short) {
                    self.break_off(&error);
                }
                0
            }
        }
    }

    /// A send failed for good. What the peer had sent before is still to be read, so the
    /// connection ends on the reading side, where this error takes the place of the FIN.
    pub(super) fn break_off(&mut self, error: &io::Error) {
        // What fails after the first is a consequence.
        let errno = error.raw_os_error().unwrap_or(libc::EPIPE);
        self.broken.get_or_insert(errno);
        // The kernel may think better of the connection than we do: nothing is to go out behind
        // what is missing, and the peer is not to wait for it.
        if let Some(fd) = &self.fd {
            net::finish(fd.as_fd());
        }
        self.lost_bytes |= match &self.secure {
            Some(secure) => secure.gathered() > 0 || self.sent < secure.sealed_until,
            None => true,
        };
        self.queue.clear();
        self.refused = false;
        if let Some(secure) = &mut self.secure {
            secure.forget_gathered();
        }
        if !self.state.paused {
            self.forget_drain();
        }
    }

    /// Whether a connection that broke was at its end all the same: the peer had said goodbye, we
    /// had finished, and what did not reach it is the session's own (tickets, our `close_notify`).
    pub fn had_ended(&self) -> bool {
        let parted = self.secure.as_ref().is_some_and(|it| it.peer_closed);
        // To asyncio it is a reset all the same.
        parted && !self.settings.transport && !self.lost_bytes && !self.state.accepts_writes()
    }

    /// A send failed: nothing more goes out, and what was queued is lost.
    pub fn broken(&self) -> Option<io::Error> {
        self.broken.map(io::Error::from_raw_os_error)
    }

    /// The error of a broken connection that no read can meet any more, or is to.
    pub fn take_broken(&mut self) -> Option<io::Error> {
        let unread = self.state.read_ended() || self.settings.transport;
        if unread && !self.state.is_closed() {
            return take_cause(&mut self.broken);
        }
        None
    }

    fn send_fin(&mut self) {
        if let Some(fd) = &self.fd {
            let socket = SockRef::from(fd);
            if self.settings.exclusive && !self.state.read_ended() {
                // Whoever finishes first leaves the port in TIME_WAIT. The kernel's leftover keeps
                // this option, and without it would stop the next bind, ours included.
                let _ = socket.set_reuse_address(true);
            }
            match socket.shutdown(std::net::Shutdown::Write) {
                // The connection broke meanwhile; the reading side meets it.
                Err(error) if error.kind() != io::ErrorKind::NotConnected => self.break_off(&error),
                _ => {}
            }
        }
        self.state.apply(Input::FinSent);
    }

    /// Lets go of the descriptor.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.endpoints();
        self.queue.clear();
        self.refused = false;
        self.forget_drain();
        self.state.apply(Input::Gone);
        self.fd.take()
    }
}

//! Bytes that go from stream to stream inside the kernel.

use std::io;
use std::os::fd::AsFd;

use super::Stream;
use crate::sys::{Conduit, net};

impl Stream {
    /// Whether what it receives can go on without being looked at.
    pub fn splices(&self) -> bool {
        self.secure.is_none() && self.broken.is_none() && self.is_tcp()
    }

    /// Bytes that it would send at once out of a conduit.
    pub fn room(&self) -> usize {
        if self.splices() && self.queue.is_empty() && self.corks == 0 && self.can_write() {
            self.borrow_fd().map_or(0, net::send_room)
        } else {
            0
        }
    }

    /// Has a conduit take what has arrived; 0 is the peer's FIN.
    pub fn receive_into(&mut self, conduit: &Conduit, most: usize) -> io::Result<usize> {
        let Some(fd) = &self.fd else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        let n = conduit.fill(fd.as_fd(), most)?;
        self.bytes_read += n as u64;
        self.active = true;
        Ok(n)
    }

    /// Sends so many bytes out of a conduit, or as many as there is room for.
    pub fn send_from(&mut self, conduit: &Conduit, count: usize) -> usize {
        let mut sent = 0;
        while sent < count {
            let Some(fd) = &self.fd else { break };
            let result = conduit.pour(fd.as_fd(), count - sent);
            match self.note_sent(result) {
                0 => break,
                n => sent += n,
            }
        }
        sent
    }
}

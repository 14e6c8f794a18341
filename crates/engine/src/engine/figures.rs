//! What can be seen of connections: counted here, or asked of the kernel.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Engine, Member};
use crate::stream::Stream;
use crate::sys::net;
use crate::token::Token;

/// What has gone through connections that are open, and what waits in them.
#[derive(Clone, Copy, Default, Debug)]
pub struct Traffic {
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Bytes accepted for sending that the kernel has not taken.
    pub queued: usize,
}

impl Engine {
    /// Of these connections, or of others for those that are gone.
    pub fn traffic(&self, tokens: impl IntoIterator<Item = Token>) -> Traffic {
        let mut traffic = Traffic::default();
        for stream in tokens.into_iter().filter_map(|token| self.stream(token)) {
            traffic.queued += stream.queued();
            // The last words of those have been taken.
            if !stream.released {
                traffic.bytes_read += stream.bytes_read;
                traffic.bytes_written += stream.bytes_written();
            }
        }
        traffic
    }

    /// Connections that are open, or whose proxy still introduces them.
    pub fn connections(&self) -> usize {
        let is_connection = |token: &Token| match self.members.get(*token) {
            Some(Member::Stream(stream)) => !stream.released,
            Some(Member::Greeting(_)) => true,
            Some(Member::Listener(_) | Member::Attempt(_)) | None => false,
        };
        self.members
            .tokens()
            .iter()
            .filter(|it| is_connection(it))
            .count()
    }

    pub fn listeners(&self) -> usize {
        let is_listener =
            |token: &Token| matches!(self.members.get(*token), Some(Member::Listener(_)));
        self.members
            .tokens()
            .iter()
            .filter(|it| is_listener(it))
            .count()
    }

    /// The kernel's `struct tcp_info`, as long as this kernel has it; of a listener, too.
    pub fn tcp_info(&self, token: Token) -> Option<Vec<u8>> {
        net::tcp_info(self.descriptor(token)?).ok()
    }

    /// Process, user and group at the other end of a unix socket, as they were when it was connected.
    pub fn peer_credentials(&self, token: Token) -> Option<(i32, u32, u32)> {
        if self.stream(token).is_some_and(Stream::is_tcp) {
            return None;
        }
        net::peer_credentials(self.descriptor(token)?).ok()
    }

    fn descriptor(&self, token: Token) -> Option<BorrowedFd<'_>> {
        match self.members.get(token)? {
            Member::Stream(stream) if !stream.told => stream.borrow_fd(),
            Member::Listener(listener) => Some(listener.fd.as_fd()),
            _ => None,
        }
    }
}

//! Much that goes through two piped streams goes through without being copied: out of one socket,
//! through a pipe of the kernel's, into the other.
//!
//! One such pipe serves all of an engine, because it is empty whenever nobody is in here: as much is
//! taken as the other socket has room for, and what it does not take all the same is read out and
//! waits as any other piece.

use std::io;

use super::{Engine, Member};
use crate::stream::Stream;
use crate::sys::Conduit;
use crate::token::Token;

/// Less than that is copied: it would not be worth the calls.
const LEAST: usize = 32 * 1024;

/// What became of it.
pub(super) enum Spliced {
    Carried(usize),
    /// There is nothing more right now, or nobody to carry it to.
    Nothing,
    /// What comes next is to be received: these two cannot do better, or it is a FIN.
    Unfit,
    Failed(io::Error),
}

impl Engine {
    pub(super) fn splice(&mut self, token: Token, buffer: &mut [u8], most: usize) -> Spliced {
        let Some(partner) = self.pipes.partner(token) else {
            return Spliced::Nothing;
        };
        let room = self.stream(partner).map_or(0, Stream::room);
        let fits = room >= LEAST && self.stream(token).is_some_and(Stream::splices);
        if !fits {
            return Spliced::Unfit;
        }
        if self.pipes.conduit.is_none() {
            // Out of descriptors, it is copied.
            self.pipes.conduit = Conduit::new().ok();
        }
        let (Some(conduit), Some(Member::Stream(from))) =
            (&self.pipes.conduit, self.members.get_mut(token))
        else {
            return Spliced::Unfit;
        };
        let moved = match from.receive_into(conduit, most.min(room)) {
            Ok(0) => return Spliced::Unfit,
            Ok(n) => n,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::EAGAIN) => Spliced::Nothing,
                    Some(libc::EINVAL | libc::EINTR | libc::ENOMEM) => Spliced::Unfit,
                    _ => Spliced::Failed(error),
                };
            }
        };
        let mut sent = 0;
        if let Some(Member::Stream(to)) = self.members.get_mut(partner) {
            sent = to.send_from(conduit, moved);
        }
        if sent == moved {
            self.settle(partner);
            return Spliced::Carried(moved);
        }
        self.carry_rest(token, buffer, moved, moved - sent)
    }

    /// Empties the conduit of what the other socket has not moved.
    fn carry_rest(
        &mut self,
        token: Token,
        buffer: &mut [u8],
        moved: usize,
        mut rest: usize,
    ) -> Spliced {
        while rest > 0 {
            let read = match &self.pipes.conduit {
                Some(conduit) => conduit.read(buffer),
                None => return Spliced::Nothing,
            };
            match read {
                Ok(n @ 1..) => {
                    rest = rest.saturating_sub(n);
                    if !self.hand_over(token, &buffer[..n]) {
                        // What is left in it is nobody's.
                        self.pipes.conduit = None;
                        return Spliced::Nothing;
                    }
                }
                Ok(_) => return self.lose_conduit(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.lose_conduit(error),
            }
        }
        Spliced::Carried(moved)
    }

    fn lose_conduit(&mut self, error: io::Error) -> Spliced {
        self.pipes.conduit = None;
        Spliced::Failed(error)
    }
}

//! What asyncio's transports write within a turn. Consecutive writes to one connection leave
//! together, as head and body of an answer do: what is in the outbox is sent when another
//! connection writes, when anything else happens to this one, and when its event or the turn ends.

use super::{Engine, Member, Notice};
use crate::buffer::Piece;
use crate::token::Token;

pub(super) struct Outbox {
    /// Whose bytes they are; nobody's if there are none.
    token: Token,
    bytes: Vec<u8>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            token: Token::NONE,
            bytes: Vec::new(),
        }
    }
}

impl Engine {
    /// Takes everything that a transport is given, and returns how much of it has to wait; `None`
    /// if nothing is taken any more.
    pub fn transmit(&mut self, token: Token, pieces: &[Piece<'_>]) -> Option<usize> {
        if self.outbox.token != token {
            self.send_outbox();
        }
        let phase = self.phase;
        let Some(Member::Stream(stream)) = self.members.get_mut(token) else {
            return None;
        };
        let gathers = phase.gathers(stream);
        let len: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        if gathers && stream.may_gather(self.outbox.bytes.len() + len) {
            self.outbox.token = token;
            for piece in pieces {
                self.outbox.bytes.extend_from_slice(piece.bytes);
            }
            return Some(0);
        }
        if gathers && let Some(secure) = stream.may_gather_secure(len) {
            secure.gather(pieces);
            if secure.take_pump() {
                self.notices.push_back(Notice::Pump(token));
            } else if stream.wants_flush() && !stream.dirty {
                stream.dirty = true;
                self.dirty.push(token);
            }
            return Some(0);
        }
        if self.outbox.token != token {
            return self.with_stream(token, |stream| stream.transmit(pieces))?;
        }
        self.empty_outbox(|engine, gathered| {
            let mut all = vec![Piece::lent(gathered)];
            all.extend_from_slice(pieces);
            engine.with_stream(token, |stream| stream.transmit(&all))?
        })
    }

    /// Before anything else happens to this connection.
    #[inline]
    pub(super) fn send_outbox_of(&mut self, token: Token) {
        if self.outbox.token == token {
            self.send_outbox();
        }
    }

    #[inline]
    pub(super) fn send_outbox(&mut self) {
        let token = self.outbox.token;
        if token != Token::NONE {
            self.empty_outbox(|engine, gathered| {
                engine.with_stream(token, |stream| stream.transmit(&[Piece::lent(gathered)]));
            });
        }
    }

    fn empty_outbox<R>(&mut self, send: impl FnOnce(&mut Self, &[u8]) -> R) -> R {
        self.outbox.token = Token::NONE;
        let mut bytes = std::mem::take(&mut self.outbox.bytes);
        let result = send(self, &bytes);
        // Its memory serves the next.
        bytes.clear();
        self.outbox.bytes = bytes;
        result
    }
}

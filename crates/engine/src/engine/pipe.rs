//! Two streams piped: what one of them receives the other sends, and neither owner is asked.
//!
//! The way between them is the one that a careful owner would take: what is received is handed to
//! the other stream as a whole, and if any of it has to wait there, reading pauses until nothing
//! does. So at most one piece waits in each direction. A FIN is carried over once everything before
//! it was; when both have come, the connections end by themselves. Any other end of one of them is
//! the end of the other, too.

use super::splicing::Spliced;
use super::{Engine, Member, Read};
use crate::buffer::Piece;
use crate::error::CloseReason;
use crate::state::Input;
use crate::stream::{Received, Stream};
use crate::sys::Conduit;
use crate::token::Token;

/// Bytes that are carried at once, and may have to wait. Measured: of smaller pieces the calls are
/// felt, and larger ones do not stay in the processor's nearest caches between the two copies.
const PIECE: usize = 32 * 1024;
/// Bytes that one direction gets in one turn.
const BUDGET: usize = 512 * 1024;

#[derive(Default)]
pub(super) struct Pipes {
    /// Who is piped to whom, by slot.
    pairs: Vec<Option<(Token, Token)>>,
    /// For what need not be copied; empty between two uses, and made for the first.
    pub(super) conduit: Option<Conduit>,
}

impl Pipes {
    fn add(&mut self, one: Token, other: Token) {
        for (token, partner) in [(one, other), (other, one)] {
            if self.pairs.len() <= token.index() {
                self.pairs.resize(token.index() + 1, None);
            }
            self.pairs[token.index()] = Some((token, partner));
        }
    }

    #[inline]
    pub(super) fn partner(&self, token: Token) -> Option<Token> {
        match self.pairs.get(token.index()) {
            Some(&Some((member, partner))) if member == token => Some(partner),
            _ => None,
        }
    }

    /// This one is not piped any more; the other may still be with what is left of it.
    fn leave(&mut self, token: Token) -> Option<Token> {
        let partner = self.partner(token)?;
        self.pairs[token.index()] = None;
        Some(partner)
    }
}

/// Why streams cannot be piped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unpipable {
    /// One of them is not open, has ended its side already, or wants nothing more to read.
    NotOpen,
    /// One of them is in another pipe.
    Piped,
    /// Data of one of them is cut into packets.
    Framed,
}

impl Engine {
    /// From now on each of them sends what the other receives, beginning with what waits.
    pub fn pipe(&mut self, one: Token, other: Token) -> Result<(), Unpipable> {
        if self.is_piped(one) || self.is_piped(other) {
            return Err(Unpipable::Piped);
        }
        let is_open = |token| self.stream(token).is_some_and(Stream::goes_both_ways);
        if one == other || !is_open(one) || !is_open(other) {
            return Err(Unpipable::NotOpen);
        }
        let cuts = |token| self.stream(token).is_some_and(Stream::cuts_packets);
        if cuts(one) || cuts(other) {
            return Err(Unpipable::Framed);
        }
        self.pipes.add(one, other);
        for token in [one, other] {
            self.with_stream(token, |stream| {
                stream.set_paused(false);
                stream.set_held(false);
                stream.state.apply(Input::Pipe);
            });
        }
        for token in [one, other] {
            let waiting = self.take_waiting(token);
            self.hand_over(token, waiting.rest());
        }
        for token in [one, other] {
            if self.stream(token).is_some_and(|it| it.state.read_ended()) {
                self.carry_fin(token);
            } else {
                // It may have been opened by TLS, and the kernel knows nothing of it then.
                self.remind(token);
            }
        }
        Ok(())
    }

    #[inline]
    pub fn is_piped(&self, token: Token) -> bool {
        self.pipes.partner(token).is_some()
    }

    /// Reads what is to be carried over.
    pub(super) fn carry(&mut self, token: Token, buffer: &mut [u8]) -> Read {
        let mut left = BUDGET;
        let mut goes_on = !self.waits_for_partner(token);
        let mut is_bulk = false;
        let mut piece = PIECE;
        while goes_on && left > 0 {
            if is_bulk {
                let least = buffer.len().min(PIECE);
                match self.splice(token, &mut buffer[..least], left) {
                    Spliced::Carried(n) => {
                        left = left.saturating_sub(n);
                        goes_on = !self.waits_for_partner(token);
                        continue;
                    }
                    Spliced::Unfit => piece = self.bulk_piece(token),
                    Spliced::Nothing => break,
                    Spliced::Failed(error) => {
                        return self.on_received(token, Received::Failed(error));
                    }
                }
            }
            let Some(Member::Stream(stream)) = self.members.get_mut(token) else {
                return Read::Nothing;
            };
            let size = buffer.len().min(piece);
            match stream.receive(&mut buffer[..size], &mut self.scratch) {
                Received::Data { n, more } => {
                    stream.bytes_read += n as u64;
                    left = left.saturating_sub(n);
                    if !self.hand_over(token, &buffer[..n]) {
                        return Read::Nothing;
                    }
                    is_bulk = more;
                    goes_on = !self.waits_for_partner(token) && more;
                }
                other => return self.on_received(token, other),
            }
        }
        if left == 0 {
            self.remind_if_unread(token);
        }
        self.settle(token);
        Read::Nothing
    }

    /// How much is carried at once in bulk: towards TLS what can be sealed and sent without waiting.
    fn bulk_piece(&self, token: Token) -> usize {
        let partner = self.pipes.partner(token);
        let partner = partner.and_then(|partner| self.stream(partner));
        partner.map_or(PIECE, |stream| stream.load_room().max(PIECE))
    }

    /// Pauses reading if something waits at the other end. It is told when nothing does any more.
    fn waits_for_partner(&mut self, token: Token) -> bool {
        let partner = self.pipes.partner(token);
        let partner = partner.and_then(|partner| self.stream_mut(partner));
        let waiting = partner.map_or(0, Stream::show_buffered);
        if waiting > 0
            && let Some(stream) = self.stream_mut(token)
        {
            stream.set_paused(true);
        }
        waiting > 0
    }

    /// Gives the other end what this one has received. What a broken connection does not send any
    /// more is lost, as it would be in its own buffers. False if the other end's owner has ended
    /// what this one is read for: that is the end of both, and no peer takes it for a FIN.
    pub fn hand_over(&mut self, token: Token, data: &[u8]) -> bool {
        let Some(partner) = self.pipes.partner(token) else {
            return false;
        };
        if data.is_empty() {
            return true;
        }
        let accepts = self.with_stream(partner, |stream| {
            stream.transmit(&[Piece::lent(data)]).is_some() || stream.state.accepts_writes()
        });
        if accepts != Some(false) {
            return true;
        }
        self.pipes.leave(token);
        self.pipes.leave(partner);
        self.close_gracefully(partner);
        self.close(token, true, CloseReason::PartnerBroke);
        false
    }

    /// Nothing waits here any more: the other end is read again.
    pub(super) fn resume_partner(&mut self, token: Token) {
        if let Some(partner) = self.pipes.partner(token) {
            let unread = self.with_stream(partner, |stream| {
                stream.set_paused(false);
                stream.has_unread()
            });
            if unread == Some(true) {
                self.remind(partner);
            }
        }
    }

    /// The peer has finished: so does the other end, behind everything that was handed over.
    pub(super) fn carry_fin(&mut self, token: Token) {
        let Some(partner) = self.pipes.partner(token) else {
            return;
        };
        let is_last = self
            .stream(partner)
            .is_none_or(|stream| stream.state.read_ended());
        // Nobody waits for anything but the last bytes then.
        let finish = if is_last { Input::End } else { Input::Shutdown };
        self.with_stream(partner, |stream| stream.apply(finish));
        if is_last {
            self.with_stream(token, |stream| stream.apply(Input::End));
        }
    }

    /// The connection ends: so does the other one, unless both peers have finished.
    pub(super) fn end_partner(&mut self, token: Token, has_finished: bool) {
        let Some(partner) = self.pipes.leave(token) else {
            return;
        };
        let reads = |stream: &Stream| !stream.state.read_ended();
        if has_finished && !self.stream(partner).is_some_and(reads) {
            return;
        }
        self.pipes.leave(partner);
        // Its owner may have ended what the other one is read for.
        let lingers = |stream: &Stream| stream.state.is_lingering();
        let is_graceful = has_finished || self.stream(token).is_some_and(lingers);
        if is_graceful {
            self.close_gracefully(partner);
        } else {
            self.close(partner, true, CloseReason::PartnerBroke);
        }
    }
}

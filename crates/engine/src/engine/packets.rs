//! The packets of connections that have some, by token.

use super::Engine;
use crate::packet::Framing;
use crate::stream::{NextPacket, Stream, Waiting};
use crate::token::Token;

impl Engine {
    /// Cuts what follows into packets in another way; `None` for the limit it was made with.
    pub fn set_packets(&mut self, token: Token, framing: Framing, limit: Option<usize>) {
        let due = self.with_stream(token, |stream| {
            stream.set_packets(framing, limit);
            stream.has_due_packets()
        });
        if due == Some(true) {
            self.remind(token);
        }
    }

    /// Whether what is read is to be cut by `next_packet`.
    pub fn is_framed(&self, token: Token) -> bool {
        self.stream(token).is_some_and(Stream::is_framed)
    }

    /// Whether what is sent gets its length in front.
    pub fn sends_packets(&self, token: Token) -> bool {
        self.stream(token).is_some_and(Stream::sends_packets)
    }

    /// What comes next of bytes that were read, the first `searched` of which hold no end.
    #[inline]
    pub fn next_packet(&self, token: Token, bytes: &[u8], searched: usize) -> NextPacket {
        match self.stream(token) {
            Some(stream) => stream.next_packet(bytes, searched),
            None => NextPacket::Unwanted,
        }
    }

    /// What was read before, if there may be a packet in it.
    pub fn take_due(&mut self, token: Token) -> Option<Waiting> {
        let stream = self.stream_mut(token)?;
        stream.has_due_packets().then(|| stream.take_waiting())
    }

    /// What was read before, to go before what was read now.
    pub fn take_waiting(&mut self, token: Token) -> Waiting {
        let stream = self.stream_mut(token);
        stream.map(Stream::take_waiting).unwrap_or_default()
    }

    /// Bytes that are to be read once more, in front of all others.
    pub fn keep_waiting(&mut self, token: Token, waiting: Waiting) {
        if let Some(stream) = self.stream_mut(token)
            && stream.state.delivers()
        {
            stream.keep_waiting(waiting);
        }
    }

    /// The packet that a FIN cut off.
    pub fn take_unfinished(&mut self, token: Token) -> Option<Vec<u8>> {
        self.stream_mut(token)?.take_unfinished()
    }

    pub fn waiting_len(&self, token: Token) -> usize {
        self.stream(token).map_or(0, Stream::waiting_len)
    }

    /// A copy of what waits, for whoever takes the connection over.
    pub fn waiting_bytes(&self, token: Token) -> Vec<u8> {
        let stream = self.stream(token);
        stream.map(Stream::waiting_bytes).unwrap_or_default()
    }
}

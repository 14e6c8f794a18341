//! Packets of a connection: what waits to be one, and what goes before those that are sent.

use std::ops::Range;

use super::{Stream, Written};
use crate::buffer::Piece;
use crate::packet::{Cut, Framing, Unspeakable};

/// The framing of a connection that has one. Most have none.
pub struct Packets {
    framing: Framing,
    limit: usize,
    waiting: Waiting,
}

/// What was read and is not delivered: the first part of a packet, or packets whose turn has not
/// come.
#[derive(Default, Debug)]
pub struct Waiting {
    pub bytes: Vec<u8>,
    /// Up to there they are delivered already.
    pub start: usize,
    /// So many behind that hold no end of a packet.
    pub searched: usize,
    /// There may be a whole packet in it.
    pub is_due: bool,
}

/// What comes next of bytes that were read.
#[derive(Debug)]
pub enum NextPacket {
    /// A packet; behind `end` others follow.
    Packet { body: Range<usize>, end: usize },
    /// Its rest has to come first.
    Unfinished { searched: usize },
    /// It is longer than so many bytes, which it may not be.
    TooLarge { limit: usize },
    /// The owner is paused or busy.
    Later,
    /// Nobody is to get it.
    Unwanted,
}

impl Packets {
    pub fn new(framing: Framing, limit: usize) -> Option<Box<Self>> {
        (framing != Framing::Raw).then(|| {
            Box::new(Self {
                framing,
                limit,
                waiting: Waiting::default(),
            })
        })
    }
}

impl Waiting {
    /// The bytes themselves.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }
}

impl Stream {
    /// Cuts what comes from now on, and what waits, in another way. The limit is the one it was
    /// made with, if none is given.
    pub fn set_packets(&mut self, framing: Framing, limit: Option<usize>) {
        let limit = limit.unwrap_or(self.settings.packet_size);
        let waiting = self.take_waiting();
        self.packets = Packets::new(framing, limit);
        if !waiting.is_empty() {
            self.keep_waiting(Waiting {
                searched: 0,
                is_due: true,
                ..waiting
            });
        }
    }

    /// Whether what is read goes through here.
    pub fn is_framed(&self) -> bool {
        self.packets.is_some()
    }

    /// Whether it is cut, and does not only wait here.
    pub fn cuts_packets(&self) -> bool {
        let cuts = |packets: &Packets| packets.framing != Framing::Raw;
        self.packets.as_deref().is_some_and(cuts)
    }

    #[inline]
    pub fn next_packet(&self, bytes: &[u8], searched: usize) -> NextPacket {
        if !self.state.delivers() {
            return NextPacket::Unwanted;
        }
        if !self.state.wants_input() {
            return NextPacket::Later;
        }
        let (framing, limit) = match &self.packets {
            Some(packets) => (packets.framing, packets.limit),
            None => (Framing::Raw, 0),
        };
        match framing.cut(bytes, searched, limit) {
            Cut::Packet { body, end } => NextPacket::Packet { body, end },
            Cut::Unfinished { searched } => NextPacket::Unfinished { searched },
            Cut::TooLarge => NextPacket::TooLarge { limit },
        }
    }

    /// Whether packets wait that can be delivered.
    pub fn has_due_packets(&self) -> bool {
        self.packets.as_ref().is_some_and(|it| it.waiting.is_due)
    }

    pub fn take_waiting(&mut self) -> Waiting {
        let packets = self.packets.as_mut();
        let waiting = packets.map(|packets| std::mem::take(&mut packets.waiting));
        // Whatever it was kept for: without a framing the next read goes another way again.
        if self
            .packets
            .as_ref()
            .is_some_and(|it| it.framing == Framing::Raw)
        {
            self.packets = None;
        }
        waiting.unwrap_or_default()
    }

    /// What waits in front of a FIN: an unfinished packet.
    pub fn take_unfinished(&mut self) -> Option<Vec<u8>> {
        let waiting = self.take_waiting();
        (!waiting.is_empty()).then(|| waiting.rest().to_vec())
    }

    pub fn waiting_len(&self) -> usize {
        let packets = self.packets.as_ref();
        packets.map_or(0, |packets| packets.waiting.rest().len())
    }

    pub fn waiting_bytes(&self) -> Vec<u8> {
        let waiting = self.packets.as_ref().map(|it| it.waiting.rest().to_vec());
        waiting.unwrap_or_default()
    }

    pub fn keep_waiting(&mut self, waiting: Waiting) {
        let made = || {
            Box::new(Packets {
                framing: Framing::Raw,
                limit: 0,
                waiting: Waiting::default(),
            })
        };
        self.packets.get_or_insert_with(made).waiting = waiting;
    }

    /// Takes a packet whole, or nothing of it where bytes wait already.
    pub(super) fn write_packet(&mut self, data: &[u8]) -> Written {
        if self.buffered() > 0 || self.is_handshaking() {
            self.drain_owed = true;
            return Written::Accepted(0);
        }
        if let Err(Unspeakable { longest }) = self.accept_packet(Piece::lent(data)) {
            return Written::TooLong { longest };
        }
        if self.broken.is_some() {
            return Written::Closed;
        }
        self.owe_drain();
        Written::Accepted(data.len())
    }

    /// Takes a packet, whatever waits, behind its length.
    pub(super) fn accept_packet(&mut self, packet: Piece<'_>) -> Result<(), Unspeakable> {
        let data = packet.bytes;
        let framing = self.packets.as_ref().map(|packets| packets.framing);
        let prefix = framing.unwrap_or_default().prefix(data.len())?;
        if self.secure.is_some() {
            self.accept_secure(&prefix);
            self.accept_secure(data);
            return Ok(());
        }
        let pieces = [Piece::lent(&prefix), packet];
        let mut sent = 0;
        if self.queue.is_empty() && self.corks == 0 {
            sent = self.send_together(&pieces);
        }
        if self.broken.is_none() {
            self.queue_behind(&pieces, sent);
        }
        self.note_accepted();
        Ok(())
    }

    /// Whether what is sent gets its length in front.
    #[inline]
    pub fn sends_packets(&self) -> bool {
        let prefixed = |packets: &Packets| matches!(packets.framing, Framing::Prefixed(_));
        self.packets.as_deref().is_some_and(prefixed)
    }
}

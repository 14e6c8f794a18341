//! Packets: what a read brought is cut, and delivered one by one. What handlers do in between
//! counts for the rest: it waits, is cut in another way, or is for the TLS that was begun.

use std::borrow::Cow;

use mantou_engine::{self as core, NextPacket, Token, Waiting};
use pyo3::prelude::*;

use super::delivering::on_packet;
use crate::engine::Engine;
use crate::errors;
use crate::socket::{Pipe, Socket};
use crate::work::Work;

/// Packets that one socket gets before others have their turn.
const PACKET_LIMIT: usize = 1024;

/// Delivers what was read earlier and is due. False if that is all for now.
pub(super) fn on_waiting(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    token: Token,
) -> PyResult<bool> {
    match engine.get().core.with(|core| core.take_due(token))? {
        Some(waiting) => Batch::of(waiting).deliver(engine, socket, token),
        None => Ok(true),
    }
}

/// Delivers the packets that so many bytes complete. False if that is all for now.
#[inline(never)]
pub(super) fn on_packets(
    engine: &Bound<'_, Engine>,
    work: &Work,
    socket: &Bound<'_, Socket>,
    token: Token,
    n: usize,
) -> PyResult<bool> {
    let fresh = work.buffer.filled(n);
    let mut waiting = engine.get().core.with(|core| core.take_waiting(token))?;
    let batch = if waiting.bytes.is_empty() {
        Batch {
            bytes: Cow::Borrowed(fresh),
            start: 0,
            searched: 0,
        }
    } else {
        waiting.bytes.extend_from_slice(fresh);
        Batch::of(waiting)
    };
    batch.deliver(engine, socket, token)
}

/// Whether the peer's FIN came within a packet, for which the connection is closed then.
#[cold]
pub(super) fn is_cut_off(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    token: Token,
) -> PyResult<bool> {
    let py = engine.py();
    match engine.get().core.with(|core| core.take_unfinished(token))? {
        Some(part) => {
            let error = errors::value(py, errors::packet_incomplete(py, &part));
            socket.get().close_for(py, error.into_any())?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Bytes that are being delivered.
struct Batch<'a> {
    bytes: Cow<'a, [u8]>,
    start: usize,
    searched: usize,
}

impl Batch<'_> {
    fn of(waiting: Waiting) -> Self {
        Self {
            bytes: Cow::Owned(waiting.bytes),
            start: waiting.start,
            searched: waiting.searched,
        }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn deliver(
        mut self,
        engine: &Bound<'_, Engine>,
        socket: &Bound<'_, Socket>,
        token: Token,
    ) -> PyResult<bool> {
        let py = socket.py();
        let engine_core = &engine.get().core;
        let mut corked = false;
        let mut left = PACKET_LIMIT;
        let goes_on = loop {
            if !socket.get().owns(py, token) {
                // Its handler gave the connection to a TLS socket, which reset the cork as well.
                self.hand_over(engine, token)?;
                return Ok(false);
            }
            let next =
                |core: &mut core::Engine| core.next_packet(token, self.rest(), self.searched);
            match engine_core.with(next)? {
                NextPacket::Packet { .. } if left == 0 => {
                    self.keep(socket, true)?;
                    engine_core.with(|core| core.remind(token))?;
                    break false;
                }
                NextPacket::Packet { body, end } => {
                    let packet = &self.bytes[self.start..][body];
                    self.start += end;
                    self.searched = 0;
                    if !corked && self.start < self.bytes.len() {
                        // The answers to what came together leave together.
                        engine_core.with(|core| core.cork(token))?;
                        corked = true;
                    }
                    left -= 1;
                    on_packet(engine, socket, packet);
                }
                NextPacket::Unfinished { searched } => {
                    self.searched = searched;
                    self.keep(socket, false)?;
                    break true;
                }
                NextPacket::Later => {
                    self.keep(socket, true)?;
                    break false;
                }
                NextPacket::TooLarge { limit } => {
                    let error = errors::value(py, errors::packet_too_large(py, limit));
                    socket.get().close_for(py, error.into_any())?;
                    break false;
                }
                NextPacket::Unwanted => {
                    self.pass_on(engine, socket, token)?;
                    break false;
                }
            }
        };
        if corked {
            engine_core.with(|core| core.uncork(token))?;
        }
        Ok(goes_on)
    }

    /// What came behind the packet for which its handler piped the socket is for the other end.
    fn pass_on(
        &self,
        engine: &Bound<'_, Engine>,
        socket: &Bound<'_, Socket>,
        token: Token,
    ) -> PyResult<()> {
        let py = socket.py();
        if let Some(pipe) = engine.get().pipe::<Pipe>(py, token) {
            pipe.get().count_early(py, socket, self.rest().len());
            engine
                .get()
                .core
                .with(|core| core.hand_over(token, self.rest()))?;
        }
        Ok(())
    }

    /// Leaves what is not delivered with the connection.
    fn keep(self, socket: &Bound<'_, Socket>, is_due: bool) -> PyResult<()> {
        let py = socket.py();
        if !self.rest().is_empty() {
            let waiting = self.into_waiting(is_due);
            socket
                .get()
                .with(py, |core, token| core.keep_waiting(token, waiting))?;
        }
        socket.get().follow_framing(py)
    }

    fn into_waiting(self, is_due: bool) -> Waiting {
        let (bytes, start) = match self.bytes {
            Cow::Owned(bytes) if is_due || self.start == 0 => (bytes, self.start),
            // It may have to wait for long, and takes no more memory than it needs.
            bytes => (bytes[self.start..].to_vec(), 0),
        };
        Waiting {
            bytes,
            start,
            searched: self.searched,
            is_due,
        }
    }

    /// What the peer sent behind the packet that made the owner begin TLS is ciphertext.
    fn hand_over(&self, engine: &Bound<'_, Engine>, token: Token) -> PyResult<()> {
        match engine.get().owner::<Socket>(engine.py(), token) {
            Some(secure) if !self.rest().is_empty() => {
                secure.get().receive_early(engine.py(), self.rest())
            }
            _ => Ok(()),
        }
    }
}

//! Reading: how much, where to, and what follows.

use std::ops::Range;

use mantou_engine::{Read, Token};
use pyo3::prelude::*;

use super::beginnings::on_established;
use super::calls::call;
use super::delivering::on_data;
use super::endings::on_broken;
use super::pumping::pump;
use crate::buffers::Draft;
use crate::engine::Engine;
use crate::handlers::BinaryType;
use crate::socket::Socket;
use crate::stage::Stage;
use crate::work::{BUFFER_SIZE, Work};

/// Bytes that one socket gets in one turn.
const READ_LIMIT: usize = 512 * 1024;
/// Reads of such sizes go straight into a new bytes object: larger ones would have the allocator map
/// memory anew each time, and smaller ones are copied as fast.
const DRAFTED: Range<usize> = 8 * 1024..DRAFT_SIZE;
/// Room for one of them: less than what glibc maps anew.
const DRAFT_SIZE: usize = 96 * 1024;

pub(super) fn read(
    engine: &Bound<'_, Engine>,
    work: &mut Work,
    socket: &Bound<'_, Socket>,
    token: Token,
) -> PyResult<()> {
    let core = &engine.get().core;
    let mut left = READ_LIMIT;
    while left > 0 {
        let mut draft = draft(work, socket, left);
        let buffer = match &mut draft {
            Some(draft) => draft.room(),
            None => &mut work.buffer.memory()[..BUFFER_SIZE.min(left)],
        };
        match core.with(|core| core.read(token, buffer))? {
            Read::Data { n, more } => {
                work.last_read = n;
                on_data(engine, work, draft, socket, n);
                if !more {
                    // The kernel had no more. If more has come meanwhile, it says so.
                    return Ok(());
                }
                left -= n;
                if !socket.get().owns(socket.py(), token) {
                    // Its handler gave the connection to a TLS socket.
                    return Ok(());
                }
            }
            Read::End => {
                call(engine, socket, Stage::End, (socket,));
                return core.with(|core| core.end_handled(token));
            }
            Read::Ciphertext { n, more } => {
                pump(engine, work, socket, token, n)?;
                left = left.saturating_sub(n);
                let goes_on = socket.get().owns(socket.py(), token)
                    && (more || core.with(|core| core.has_unread(token))?);
                if !goes_on {
                    return Ok(());
                }
            }
            Read::Established => on_established(engine, socket, token)?,
            Read::Broken(error) => return on_broken(engine, socket, &error),
            Read::Nothing => return Ok(()),
        }
    }
    // What TLS has opened already is not reported by the kernel again.
    core.with(|core| core.remind_if_unread(token))
}

/// Where to read into, if that is to become the bytes that the handler gets.
#[inline]
fn draft<'py>(work: &Work, socket: &Bound<'py, Socket>, left: usize) -> Option<Draft<'py>> {
    if !DRAFTED.contains(&work.last_read) || left < DRAFT_SIZE {
        return None;
    }
    let py = socket.py();
    if socket.get().has_driver(py) {
        return None;
    }
    let handlers = socket.get().current_handlers(py)?;
    let handlers = handlers.get();
    let wanted = handlers.of(Stage::Data).is_some() && handlers.binary_type == BinaryType::Bytes;
    wanted.then(|| Draft::new(py, DRAFT_SIZE)).flatten()
}

//! Reading: how much, where to, and what follows.

use std::ops::Range;

use mantou_engine::{Read, Token};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::beginnings::on_established;
use super::calls::{broke, call, invoke, protocol_raised};
use super::delivering::{Place, on_data, takes_bytes};
use super::endings::on_broken;
use super::packets::{is_cut_off, on_packets, on_waiting};
use super::pumping::pump;
use crate::buffers::{self, Draft};
use crate::engine::Engine;
use crate::handlers::{BinaryType, Handlers};
use crate::socket::{Intake, Socket};
use crate::stage::Stage;
use crate::streams::{Room, Stream};
use crate::work::{BUFFER_SIZE, Work};

/// Bytes that one socket gets in one turn.
const READ_LIMIT: usize = 512 * 1024;
/// The same at once where it is cut into packets: what those of one turn leave over is copied.
const PACKETS_SIZE: usize = 64 * 1024;
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
        let mut place = if socket.get().intake(engine.py()) == Intake::Handler {
            draft(work, socket, left)
        } else {
            match elsewhere(engine, work, socket, token)? {
                Some(place) => place,
                None => return Ok(()),
            }
        };
        let buffer = match &mut place {
            Place::Packets => &mut work.buffer.memory()[..PACKETS_SIZE.min(left)],
            Place::Shared => &mut work.buffer.memory()[..BUFFER_SIZE.min(left)],
            Place::Draft(draft) | Place::Piece(draft) => draft.room(),
            Place::Offered(room) => {
                let room = room.memory();
                let size = room.len().min(left);
                &mut room[..size]
            }
            Place::Part(size) => {
                let size = (*size).min(BUFFER_SIZE).min(left);
                &mut work.buffer.memory()[..size]
            }
        };
        match core.with(|core| core.read(token, buffer))? {
            Read::Data { n, more } => {
                work.last_read = n;
                // A stream's reader asked for no more, and mostly there is none.
                let is_all = matches!(place, Place::Part(_) | Place::Piece(_));
                if matches!(place, Place::Packets) {
                    if !on_packets(engine, work, socket, token, n)? {
                        return Ok(());
                    }
                } else {
                    on_data(engine, work, place, socket, n);
                }
                if !more || (is_all && !core.with(|core| core.has_unread(token))?) {
                    // The kernel had no more, or that is left to it: if there is more, it says so.
                    return Ok(());
                }
                left -= n;
                if !socket.get().owns(socket.py(), token) {
                    // Its handler gave the connection to a TLS socket.
                    return Ok(());
                }
            }
            Read::End => {
                if matches!(place, Place::Packets) && is_cut_off(engine, socket, token)? {
                    return Ok(());
                }
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

#[inline]
fn draft<'py>(work: &Work, socket: &Bound<'py, Socket>, left: usize) -> Place<'py> {
    if !DRAFTED.contains(&work.last_read) || left < DRAFT_SIZE {
        return Place::Shared;
    }
    let py = socket.py();
    if socket.get().has_driver(py) {
        return Place::Shared;
    }
    let draft = takes_bytes(socket).then(|| Draft::new(py, DRAFT_SIZE));
    draft.flatten().map_or(Place::Shared, Place::Draft)
}

/// Where to read to for whoever does not get what comes as it comes; `None` if that is all for now.
#[inline(never)]
fn elsewhere<'py>(
    engine: &Bound<'py, Engine>,
    work: &Work,
    socket: &Bound<'py, Socket>,
    token: Token,
) -> PyResult<Option<Place<'py>>> {
    match socket.get().intake(engine.py()) {
        Intake::Offered => offered(engine, work, socket, token),
        Intake::Packets => Ok(on_waiting(engine, socket, token)?.then_some(Place::Packets)),
        Intake::Handler => Ok(Some(Place::Shared)),
    }
}

/// The buffer that a `BufferedProtocol` or a stream offers for what is going to be read; `None` if it
/// failed to.
fn offered<'py>(
    engine: &Bound<'py, Engine>,
    work: &Work,
    socket: &Bound<'py, Socket>,
    token: Token,
) -> PyResult<Option<Place<'py>>> {
    let py = engine.py();
    let core = &engine.get().core;
    let opens = socket.get().is_shaking_hands(py);
    if opens || !core.with(|core| core.reads_plaintext(token))? {
        return Ok(Some(Place::Shared));
    }
    let Some(handlers) = socket.get().current_handlers(py) else {
        return Ok(Some(Place::Shared));
    };
    if handlers.get().binary_type == BinaryType::Stream {
        return Ok(Some(room_of_stream(work, handlers.get(), py)));
    }
    let (Some(get_buffer), Some(transport)) =
        (handlers.get().of(Stage::Data), handlers.get().transport())
    else {
        return Ok(Some(Place::Shared));
    };
    let buffer = invoke(engine, socket, Stage::Data, get_buffer.bind(py), (-1,)).and_then(|it| {
        if it.len()? == 0 {
            return Err(PyRuntimeError::new_err(
                "get_buffer() returned an empty buffer",
            ));
        }
        Ok(it)
    });
    let transport = transport.bind(py);
    let room = match buffer {
        Ok(buffer) => buffers::Room::new(&buffer),
        Err(error) => {
            protocol_raised(engine, transport, "get_buffer", &error);
            return Ok(None);
        }
    };
    match room {
        Ok(room) => Ok(Some(Place::Offered(room))),
        Err(error) => {
            let message = "Fatal read error on socket transport";
            broke(engine, transport, message, &error);
            Ok(None)
        }
    }
}

fn room_of_stream<'py>(work: &Work, handlers: &Handlers, py: Python<'py>) -> Place<'py> {
    let stream = handlers.transport().map(|it| it.bind(py).cast::<Stream>());
    let Some(Ok(stream)) = stream else {
        return Place::Shared;
    };
    let most = match stream.get().room(py) {
        Room::Offered(memory) => return Place::Offered(memory),
        Room::Draft(most) if DRAFTED.contains(&work.last_read) => {
            if let Some(draft) = Draft::new(py, most.min(DRAFT_SIZE)) {
                return Place::Piece(draft);
            }
            most
        }
        Room::Shared(most) | Room::Draft(most) => most,
    };
    Place::Part(most)
}

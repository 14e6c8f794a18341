//! Reading: what comes in becomes what the `data` handler or the protocol gets.

use std::ops::Range;

use mantou_engine::{Pumped, Read, Token};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use super::beginnings::on_established;
use super::calls::{call, conclude, invoke, protocol_raised};
use super::endings::on_broken;
use crate::buffers::{Draft, Room};
use crate::engine::Engine;
use crate::errors;
use crate::handlers::{BinaryType, Handlers};
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
        let mut place = if socket.get().reads_into(engine.py()) {
            match offered(engine, socket, token)? {
                Some(place) => place,
                None => return Ok(()),
            }
        } else {
            draft(work, socket, left)
        };
        let buffer = match &mut place {
            Place::Shared => &mut work.buffer.memory()[..BUFFER_SIZE.min(left)],
            Place::Draft(draft) => draft.room(),
            Place::Offered(room) => {
                let room = room.memory();
                let size = room.len().min(left);
                &mut room[..size]
            }
        };
        match core.with(|core| core.read(token, buffer))? {
            Read::Data { n, more } => {
                work.last_read = n;
                on_data(engine, work, place, socket, n);
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
            Read::Ciphertext(n) => {
                let ciphertext = received(engine.py(), work, place, n)?;
                pump(engine, work, socket, token, &ciphertext)?;
                left = left.saturating_sub(n);
                if !socket.get().owns(socket.py(), token) {
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

/// Where to read into.
enum Place<'py> {
    Shared,
    /// What is to become the bytes that the handler gets.
    Draft(Draft<'py>),
    /// The buffer of a `BufferedProtocol`.
    Offered(Room),
}

#[inline]
fn draft<'py>(work: &Work, socket: &Bound<'py, Socket>, left: usize) -> Place<'py> {
    if !DRAFTED.contains(&work.last_read) || left < DRAFT_SIZE {
        return Place::Shared;
    }
    let py = socket.py();
    let Some(handlers) = socket.get().current_handlers(py) else {
        return Place::Shared;
    };
    let handlers = handlers.get();
    let takes_bytes = matches!(
        handlers.binary_type,
        BinaryType::Bytes | BinaryType::Protocol
    );
    let wanted = handlers.of(Stage::Data).is_some() && takes_bytes;
    let draft = wanted.then(|| Draft::new(py, DRAFT_SIZE)).flatten();
    draft.map_or(Place::Shared, Place::Draft)
}

/// The buffer that a `BufferedProtocol` offers for what is going to be read; `None` if it failed to.
fn offered<'py>(
    engine: &Bound<'py, Engine>,
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
    let buffer = match buffer {
        Ok(buffer) => buffer,
        Err(error) => {
            protocol_raised(engine, transport, "get_buffer", &error);
            return Ok(None);
        }
    };
    match Room::new(&buffer) {
        Ok(room) => Ok(Some(Place::Offered(room))),
        Err(error) => {
            let message = "Fatal read error on socket transport";
            let error = errors::value_of(py, &error);
            transport.call_method1(intern!(py, "_fatal_error"), (error, message))?;
            Ok(None)
        }
    }
}

/// What a read brought, as bytes.
#[inline]
fn received<'py>(
    py: Python<'py>,
    work: &Work,
    place: Place<'py>,
    n: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    match place {
        Place::Draft(draft) => draft.finish(n),
        _ => Ok(PyBytes::new(py, work.buffer.filled(n))),
    }
}

/// Has the socket's own driver of TLS open `ciphertext`, and seal what waits to be sent. What it
/// opened is delivered, if its turn has come.
pub(super) fn pump(
    engine: &Bound<'_, Engine>,
    work: &mut Work,
    socket: &Bound<'_, Socket>,
    token: Token,
    ciphertext: &Bound<'_, PyBytes>,
) -> PyResult<()> {
    let py = engine.py();
    let core = &engine.get().core;
    let Some(driver) = socket.get().driver(py) else {
        return Ok(());
    };
    let outgoing = core.with(|core| core.take_outgoing(token))?;
    let plaintext = PyBytes::new(py, &outgoing.plaintext);
    let result = driver
        .bind(py)
        .call_method1("pump", (ciphertext, plaintext, outgoing.finish))
        .and_then(|result| result.extract());
    let (plaintext, output, established, peer_closed, error): (
        Bound<'_, PyBytes>,
        Bound<'_, PyBytes>,
        bool,
        bool,
        Option<Py<PyAny>>,
    ) = match result {
        Ok(pumped) => pumped,
        Err(error) => {
            // One of the context's own callbacks raised.
            let (none, error) = (PyBytes::new(py, b""), error.into_value(py).into_any());
            (none.clone(), none, false, false, Some(error))
        }
    };
    let broken = error.is_some();
    if let Some(error) = error {
        socket.get().set_driver_error(py, error);
    }
    let pumped = Pumped {
        plaintext: plaintext.as_bytes(),
        output: output.as_bytes(),
        established,
        peer_closed,
        broken,
    };
    if core.with(|core| core.pumped(token, &pumped))? {
        if socket.get().reads_into(py) {
            // It goes into the protocol's buffers, in as many pieces as it takes.
            core.with(|core| core.put_back(token, plaintext.as_bytes()))?;
        } else {
            on_plaintext(engine, work, socket, plaintext);
        }
    }
    Ok(())
}

/// As `on_data`, for what is bytes already.
fn on_plaintext<'py>(
    engine: &Bound<'py, Engine>,
    work: &mut Work,
    socket: &Bound<'py, Socket>,
    bytes: Bound<'py, PyBytes>,
) {
    let handlers = socket.get().current_handlers(socket.py());
    let binary_type = handlers.as_ref().map(|it| it.get().binary_type);
    match (binary_type, handlers) {
        (Some(BinaryType::Bytes), _) => {
            call(engine, socket, Stage::Data, (socket, bytes));
            return;
        }
        (Some(BinaryType::Protocol), Some(handlers)) => {
            return to_protocol(engine, socket, handlers.get(), Ok(bytes));
        }
        _ => {}
    }
    for piece in bytes.as_bytes().chunks(BUFFER_SIZE) {
        work.buffer.memory()[..piece.len()].copy_from_slice(piece);
        on_data(engine, work, Place::Shared, socket, piece.len());
    }
}

/// An asyncio protocol gets what was received. What it returns means nothing.
#[inline]
fn to_protocol<'py>(
    engine: &Bound<'py, Engine>,
    socket: &Bound<'py, Socket>,
    handlers: &Handlers,
    bytes: PyResult<Bound<'py, PyBytes>>,
) {
    let (Some(handler), Some(transport)) = (handlers.of(Stage::Data), handlers.transport()) else {
        return;
    };
    let handler = handler.bind(socket.py());
    let outcome = bytes.and_then(|it| invoke(engine, socket, Stage::Data, handler, (it,)));
    if let Err(error) = outcome {
        protocol_raised(engine, transport.bind(socket.py()), "data_received", &error);
    }
}

/// So many bytes were received into the buffer of a `BufferedProtocol`.
fn on_filled<'py>(
    engine: &Bound<'py, Engine>,
    socket: &Bound<'py, Socket>,
    handlers: &Handlers,
    n: usize,
) {
    let (Some(updated), Some(transport)) = (handlers.updated(), handlers.transport()) else {
        return;
    };
    let updated = updated.bind(socket.py());
    if let Err(error) = invoke(engine, socket, Stage::Data, updated, (n,)) {
        protocol_raised(
            engine,
            transport.bind(socket.py()),
            "buffer_updated",
            &error,
        );
    }
}

#[inline]
fn on_data<'py>(
    engine: &Bound<'py, Engine>,
    work: &mut Work,
    place: Place<'py>,
    socket: &Bound<'py, Socket>,
    n: usize,
) {
    let py = socket.py();
    let Some(handlers) = socket.get().current_handlers(py) else {
        return;
    };
    let handlers = handlers.get();
    let Some(handler) = handlers.of(Stage::Data) else {
        return;
    };
    let handler = handler.bind(py);
    let outcome = match handlers.binary_type {
        BinaryType::Protocol => {
            return to_protocol(engine, socket, handlers, received(py, work, place, n));
        }
        BinaryType::Buffered => {
            // Its owner may change its size from now on.
            drop(place);
            return on_filled(engine, socket, handlers, n);
        }
        BinaryType::Bytes => received(py, work, place, n)
            .and_then(|bytes| invoke(engine, socket, Stage::Data, handler, (socket, bytes))),
        BinaryType::Bytearray => {
            let bytes = PyByteArray::new(py, work.buffer.filled(n));
            invoke(engine, socket, Stage::Data, handler, (socket, bytes))
        }
        BinaryType::Memoryview => {
            // An async handler takes its first step while the view is there, too.
            let lent = work.buffer.lend(py, n, |view| {
                let outcome = invoke(engine, socket, Stage::Data, handler, (socket, view));
                conclude(engine, socket, Stage::Data, outcome);
                Ok(())
            });
            match lent {
                Ok(()) => return,
                Err(error) => Err(error),
            }
        }
    };
    conclude(engine, socket, Stage::Data, outcome);
}

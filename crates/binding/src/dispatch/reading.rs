//! Reading: what comes in becomes what the `data` handler gets.

use std::ops::Range;

use mantou_engine::{Pumped, Read, Token};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use super::beginnings::on_established;
use super::calls::{call, conclude, invoke};
use super::endings::on_broken;
use crate::buffers::Draft;
use crate::engine::Engine;
use crate::handlers::BinaryType;
use crate::handshake::{Handshake, Progress};
use crate::socket::Socket;
use crate::stage::Stage;
use crate::tls;
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
            Read::Ciphertext(n) => {
                let ciphertext = received(engine.py(), work, draft, n)?;
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

/// Where to read into, if that is to become the bytes that the handler gets.
#[inline]
fn draft<'py>(work: &Work, socket: &Bound<'py, Socket>, left: usize) -> Option<Draft<'py>> {
    if !DRAFTED.contains(&work.last_read) || left < DRAFT_SIZE {
        return None;
    }
    let py = socket.py();
    let handlers = socket.get().current_handlers(py)?;
    let handlers = handlers.get();
    let wanted = handlers.of(Stage::Data).is_some() && handlers.binary_type == BinaryType::Bytes;
    wanted.then(|| Draft::new(py, DRAFT_SIZE)).flatten()
}

/// What a read brought, as bytes.
#[inline]
fn received<'py>(
    py: Python<'py>,
    work: &Work,
    draft: Option<Draft<'py>>,
    n: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    match draft {
        Some(draft) => draft.finish(n),
        None => Ok(PyBytes::new(py, work.buffer.filled(n))),
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
    if let Ok(handshake) = driver.bind(py).cast::<Handshake>() {
        return shake_hands(engine, work, socket, token, handshake.get(), ciphertext);
    }
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
        on_plaintext(engine, work, socket, plaintext);
    }
    Ok(())
}

/// Goes on with a handshake that rustls carries out, until the engine can take its session over.
fn shake_hands(
    engine: &Bound<'_, Engine>,
    work: &mut Work,
    socket: &Bound<'_, Socket>,
    token: Token,
    handshake: &Handshake,
    ciphertext: &Bound<'_, PyBytes>,
) -> PyResult<()> {
    let py = engine.py();
    let core = &engine.get().core;
    // There is nothing to seal yet; but we have come.
    core.with(|core| core.take_outgoing(token))?;
    let (output, broken) = match handshake.advance(py, ciphertext.as_bytes()) {
        Progress::Going(output) => (output, false),
        Progress::Failed(error, output) => {
            let error = error.into_value(py).into_any();
            socket.get().set_driver_error(py, error);
            (output, true)
        }
        Progress::Done {
            session,
            plaintext,
            output,
        } => {
            socket.get().set_driver(py, None);
            return core.with(|core| core.adopt_session(token, *session, &plaintext, &output));
        }
        Progress::Declined(hello) => {
            let driver = tls::openssl_driver(py, handshake.context(), &hello)?;
            socket.get().set_driver(py, Some(driver));
            return pump(engine, work, socket, token, &PyBytes::new(py, b""));
        }
    };
    let pumped = Pumped {
        output: &output,
        broken,
        ..Pumped::default()
    };
    core.with(|core| core.pumped(token, &pumped)).map(drop)
}

/// As `on_data`, for what is bytes already.
fn on_plaintext<'py>(
    engine: &Bound<'py, Engine>,
    work: &mut Work,
    socket: &Bound<'py, Socket>,
    bytes: Bound<'py, PyBytes>,
) {
    let handlers = socket.get().current_handlers(socket.py());
    let binary_type = handlers.map(|handlers| handlers.get().binary_type);
    if binary_type == Some(BinaryType::Bytes) {
        call(engine, socket, Stage::Data, (socket, bytes));
        return;
    }
    for piece in bytes.as_bytes().chunks(BUFFER_SIZE) {
        work.buffer.memory()[..piece.len()].copy_from_slice(piece);
        on_data(engine, work, None, socket, piece.len());
    }
}

#[inline]
fn on_data<'py>(
    engine: &Bound<'py, Engine>,
    work: &mut Work,
    draft: Option<Draft<'py>>,
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
        BinaryType::Bytes => received(py, work, draft, n)
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

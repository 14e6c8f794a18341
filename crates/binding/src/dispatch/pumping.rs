//! TLS that an `ssl.SSLContext` drives: what its records become, and when they are delivered.

use std::io::IoSlice;
use std::mem;

use mantou_engine::{Pumped, Token};
use pyo3::prelude::*;

use super::delivering::{Place, on_bytes, on_data, takes_bytes};
use crate::engine::Engine;
use crate::errors;
use crate::handshake::{Handshake, Progress};
use crate::socket::{Intake, Socket};
use crate::ssl_driver::SslPump;
use crate::tls;
use crate::work::Work;

/// Has the socket's driver open so many bytes that were read, and seal what waits to be sent. What
/// it opened is delivered, if its turn has come.
pub(super) fn pump(
    engine: &Bound<'_, Engine>,
    work: &mut Work,
    socket: &Bound<'_, Socket>,
    token: Token,
    received: usize,
) -> PyResult<()> {
    if received > 0 {
        mem::swap(&mut work.buffer, &mut work.ciphertext);
    }
    let py = engine.py();
    let Some(driver) = socket.get().driver(py) else {
        return Ok(());
    };
    let driver = driver.bind(py);
    let Ok(driver) = driver.cast::<SslPump>() else {
        let handshake = driver.cast::<Handshake>()?;
        return shake_hands(engine, work, socket, token, handshake.get(), received);
    };
    let core = &engine.get().core;
    let outgoing = core.with(|core| core.take_outgoing(token))?;
    let as_bytes = received > 0 && takes_bytes(socket);
    let outcome = SslPump::drive(driver, work, received, as_bytes, outgoing);
    let broken = outcome.error.is_some();
    if let Some(error) = outcome.error {
        socket
            .get()
            .set_driver_error(py, errors::value(py, error).into_any());
    }
    let pieces = outcome.sealed.iter();
    let output: Vec<_> = pieces.map(|piece| IoSlice::new(piece.as_bytes())).collect();
    let plaintext = match &outcome.record {
        Some(bytes) => bytes.as_bytes(),
        None => work.buffer.filled(outcome.opened),
    };
    let pumped = Pumped {
        plaintext,
        output: &output,
        established: outcome.established,
        stalled: outcome.stalled,
        peer_closed: outcome.peer_closed,
        broken,
    };
    if core.with(|core| core.pumped(token, &pumped))? {
        if socket.get().intake(py) != Intake::Handler {
            // It goes into the protocol's buffers or is cut into packets, piece by piece.
            core.with(|core| core.put_back(token, plaintext))?;
        } else if let Some(bytes) = outcome.record {
            on_bytes(engine, work, socket, bytes);
        } else {
            on_data(engine, work, Place::Shared, socket, outcome.opened);
        }
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
    received: usize,
) -> PyResult<()> {
    let py = engine.py();
    let core = &engine.get().core;
    // There is nothing to seal yet; but we have come.
    core.with(|core| core.take_outgoing(token))?;
    let (output, broken) = match handshake.advance(py, work.ciphertext.filled(received)) {
        Progress::Going(output) => (output, false),
        Progress::Failed(error, output) => {
            let error = errors::value(py, error).into_any();
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
            let bios = &engine.get().bios;
            let driver = tls::openssl_driver(py, bios, handshake.context(), &hello)?;
            socket.get().set_driver(py, Some(driver));
            return pump(engine, work, socket, token, 0);
        }
    };
    let pumped = Pumped {
        output: &[IoSlice::new(&output)],
        broken,
        ..Pumped::default()
    };
    core.with(|core| core.pumped(token, &pumped)).map(drop)
}

//! How connections end: broken, idle, closed, or with the loop.

use mantou_engine::tls::TlsError;
use mantou_engine::{CloseReason, Token};
use pyo3::prelude::*;

use super::beginnings::connect_failed;
use super::calls::call;
use super::{LAST_ROUNDS, Stage, Verdict, Work, coroutines, handle_notices};
use crate::engine::{Engine, Owner};
use crate::errors;
use crate::socket::{Ending, Socket};
use crate::tls;

/// An established TLS session broke: `error` is told, then the connection is closed.
pub(super) fn on_broken(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    error: &TlsError,
) -> PyResult<()> {
    let py = engine.py();
    let error = match socket.get().take_driver_error(py) {
        Some(error) => error,
        None => tls::to_exception(py, error).into_value(py).into_any(),
    };
    call(engine, socket, Stage::Error, (socket, error.bind(py)));
    socket.get().close_for(py, error)
}

pub(super) fn on_idle(engine: &Bound<'_, Engine>, token: Token) -> PyResult<()> {
    let py = engine.py();
    let Some(Owner::Socket(socket)) = engine.get().owner(py, token) else {
        return Ok(());
    };
    let socket = socket.bind(py);
    // Whoever is still deciding need not be asked again.
    if !socket.get().is_open(py)? || socket.get().is_deciding(py) {
        return Ok(());
    }
    let verdict = call(engine, socket, Stage::Timeout, (socket,));
    if verdict == Verdict::Default {
        give_up_idle(socket)?;
    }
    Ok(())
}

pub(super) fn give_up_idle(socket: &Bound<'_, Socket>) -> PyResult<()> {
    let py = socket.py();
    let error = errors::timed_out("neither a byte was read nor written within the idle timeout");
    socket
        .get()
        .give_up_for(py, error.into_value(py).into_any())
}

pub(super) fn on_closed(
    engine: &Bound<'_, Engine>,
    token: Token,
    reason: &CloseReason,
) -> PyResult<()> {
    let py = engine.py();
    let owner = engine.get().take_owner(py, token);
    let last_look =
        |core: &mut mantou_engine::Engine| (core.is_handshaking(token), core.release(token));
    let (handshaking, farewell) = engine.get().core.with(last_look)?;
    let Some(Owner::Socket(socket)) = owner else {
        return Ok(());
    };
    let socket = socket.bind(py);
    let this = socket.get();
    let never_opened = this.is_shaking_hands(py);
    let failure = this.finish(py, farewell);
    let is_ours = failure.is_some();
    let failure = failure.or_else(|| this.take_driver_error(py));
    let error = failure.or_else(|| errors::from_close(py, reason));
    let ending = Ending::Own {
        error,
        is_ours,
        never_opened,
        handshaking,
    };
    coroutines::end(engine, socket, ending)
}

/// The last events of a connection.
pub(super) fn say_goodbye(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>, ending: &Ending) {
    let Ending::Own {
        error,
        is_ours,
        never_opened,
        handshaking,
    } = ending
    else {
        return;
    };
    let py = engine.py();
    let this = socket.get();
    this.depart(py);
    let error = error.as_ref().map(|error| error.bind(py));
    let why = || {
        error
            .cloned()
            .unwrap_or_else(|| errors::aborted_handshake(py))
    };
    if *never_opened {
        connect_failed(engine, socket, &why());
    } else if *handshaking {
        call(engine, socket, Stage::Handshake, (socket, false, &why()));
    }
    if this.is_awaited(py) {
        this.settle_unready(py, &why(), *is_ours);
    }
    if let Some(raw) = this.take_raw(py) {
        // The socket that this one took the connection over from ends with it, just before.
        let raw = raw.bind(py);
        raw.get().depart(py);
        call(engine, raw, Stage::Close, (raw, error));
        raw.get().settle_closed(py, error);
    }
    if !never_opened {
        call(engine, socket, Stage::Close, (socket, error));
    }
    this.settle_closed(py, error);
    if let Some(listener) = this.native_listener(py) {
        listener.get().remove_connection(py);
    }
}

/// Tells at once of an end that would be told of in the next turn.
pub fn conclude_end(engine: &Bound<'_, Engine>, token: Token) -> PyResult<()> {
    if let Some(reason) = engine.get().core.with(|core| core.take_end(token))? {
        on_closed(engine, token, &reason)?;
    }
    engine.get().check_fatal(engine.py())
}

/// The loop ends: nothing is left open, and everybody is told.
pub fn end_all(engine: &Bound<'_, Engine>) -> PyResult<()> {
    let py = engine.py();
    let this = engine.get();
    let mut work = Work::default();
    for token in this.core.with(|core| core.tokens())? {
        match this.owner(py, token) {
            Some(Owner::Listener(listener)) => {
                let owner = listener.get().owner(py);
                let stopped = match owner {
                    Some(owner) => owner.call_method0(py, "stop").map(drop),
                    None => listener.get().stop_accepting(py),
                };
                if let Err(error) = stopped {
                    error.write_unraisable(py, Some(listener.bind(py).as_any()));
                }
            }
            Some(Owner::Attempt(_)) => {
                drop(this.take_owner(py, token));
                this.core.with(|core| core.cancel_attempt(token))?;
            }
            Some(Owner::Socket(_)) | None => {
                this.core
                    .with(|core| core.abandon(token, work.buffer.memory()))?;
            }
        }
    }
    for _ in 0..LAST_ROUNDS {
        let count = this.core.with(|core| core.notices())?;
        if count == 0 {
            break;
        }
        handle_notices(engine, &mut work, count)?;
    }
    Ok(())
}

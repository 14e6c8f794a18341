//! How connections end: broken, idle, closed; and what async handlers say when they end.

use mantou_engine::tls::TlsError;
use mantou_engine::{CloseReason, Token};
use pyo3::prelude::*;

use super::calls::{Verdict, call, hold, weigh};
use crate::engine::Engine;
use crate::errors;
use crate::socket::{Ending, Pipe, Socket};
use crate::stage::Stage;
use crate::totals::{Fact, Failure};

/// An established TLS session broke: `error` is told, then the connection is closed.
pub(super) fn on_broken(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    error: &TlsError,
) -> PyResult<()> {
    let py = engine.py();
    let error = match socket.get().take_driver_error(py) {
        Some(error) => error,
        None => errors::value(py, errors::from_tls(py, error)).into_any(),
    };
    let verdict = call(engine, socket, Stage::Error, (socket, error.bind(py)));
    if verdict == Verdict::Keep && socket.get().is_transport(py) {
        // To asyncio a missing close_notify is an end like any other.
        return Ok(());
    }
    socket.get().close_for(py, error)
}

pub(super) fn on_idle(engine: &Bound<'_, Engine>, token: Token) -> PyResult<()> {
    let py = engine.py();
    let Some(socket) = engine.get().owner::<Socket>(py, token) else {
        return Ok(());
    };
    let socket = &socket;
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

fn give_up_idle(socket: &Bound<'_, Socket>) -> PyResult<()> {
    let py = socket.py();
    let error = errors::timed_out("neither a byte was read nor written within the idle timeout");
    socket
        .get()
        .give_up_for(py, errors::value(py, error).into_any())
}

pub(super) fn on_closed(
    engine: &Bound<'_, Engine>,
    token: Token,
    reason: &CloseReason,
) -> PyResult<()> {
    let py = engine.py();
    let socket = engine.get().owner::<Socket>(py, token);
    drop(engine.get().take_owner(py, token));
    let last_look =
        |core: &mut mantou_engine::Engine| (core.is_handshaking(token), core.release(token));
    let (handshaking, farewell) = engine.get().core.with(last_look)?;
    let Some(socket) = socket else {
        return Ok(());
    };
    let this = socket.get();
    let never_opened = this.is_shaking_hands(py);
    let failure = this.finish(py, farewell);
    let is_ours = failure.is_some();
    let failure = failure.or_else(|| this.take_driver_error(py));
    let error = failure.or_else(|| errors::from_close(py, reason));
    if handshaking {
        let error = error.as_ref().map(|error| error.bind(py));
        this.count(py, Fact::NotEstablished(Failure::of(reason, error)));
        engine.get().host.handshake_failed(&socket, error);
    }
    let pipe = engine.get().take_pipe(py, token);
    if let Some(pipe) = &pipe
        && let Ok(pipe) = pipe.bind(py).cast::<Pipe>()
    {
        Pipe::leave(pipe, reason, error.as_ref());
    }
    let ending = Ending::Own {
        error,
        is_ours,
        never_opened,
        handshaking,
    };
    let raw = busy_raw(&socket);
    if raw.is_none() && !this.has_coroutines(py) {
        say_goodbye(engine, &socket, &ending);
        return Ok(());
    }
    // It is told once its coroutines and those of the socket that it was upgraded from have ended.
    engine.get().core.with(mantou_engine::Engine::hold)?;
    this.set_ending(py, ending);
    if let Some(raw) = raw {
        let with = Ending::With(socket.clone().unbind());
        raw.get().set_ending(py, with);
        engine.get().host.cancel(&raw);
    }
    // Where both sides have finished nothing was lost, and whoever had the last word may go on. Who
    // waits for a pipe is told by that.
    if !matches!(reason, CloseReason::Finished) && pipe.is_none() {
        engine.get().host.cancel(&socket);
    }
    Ok(())
}

/// The last events of a connection.
fn say_goodbye(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>, ending: &Ending) {
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
        await_last_words(raw);
    }
    if !never_opened {
        call(engine, socket, Stage::Close, (socket, error));
    }
    this.settle_closed(py, error);
    await_last_words(socket);
    if let Some(listener) = this.native_listener(py) {
        listener.get().remove_connection(py);
    }
}

/// Who waits for the last connection of its listener waits for an async `close` as well.
fn await_last_words(socket: &Bound<'_, Socket>) {
    let py = socket.py();
    if socket.get().has_coroutines(py)
        && let Some(listener) = socket.get().native_listener(py)
    {
        listener.get().add_last_words(py);
        socket.get().set_ending(py, Ending::LastWords);
    }
}

/// The connection never came about.
pub fn connect_failed(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    error: &Bound<'_, PyAny>,
) {
    socket.get().fail(engine.py());
    call(engine, socket, Stage::ConnectError, (socket, error));
}

/// Tells at once of an end that would be told of in the next turn.
pub fn conclude_end(engine: &Bound<'_, Engine>, token: Token) -> PyResult<()> {
    if let Some(reason) = engine.get().core.with(|core| core.take_end(token))? {
        on_closed(engine, token, &reason)?;
    }
    engine.get().check_fatal(engine.py())
}

/// An async handler has come to its end; what it says counts as if it had said so at once.
pub fn finished(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    stage: Stage,
    cause: Option<&Bound<'_, PyAny>>,
    outcome: PyResult<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = engine.py();
    let this = socket.get();
    let verdict = weigh(engine, socket, stage, cause, outcome);
    match (stage, verdict, cause) {
        (Stage::Timeout, Verdict::Default, _) => give_up_idle(socket)?,
        (Stage::Error, Verdict::Default, Some(cause)) => {
            this.close_for(py, cause.clone().unbind())?;
        }
        _ => {}
    }
    this.remove_coroutine(py, stage.holds());
    if stage.holds() && !this.is_held(py) {
        hold(socket, false);
        this.settle_ready(py)?;
    }
    this.settle_concluded(py);
    conclude(engine, socket)
}

/// The connection broke while a coroutine waits.
pub(super) fn on_lost(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>) {
    engine.get().host.cancel(socket);
}

/// Has those whose coroutines do not end, though they were cancelled, told all the same.
pub fn end_without_waiting(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>) -> PyResult<()> {
    socket.get().forget_coroutines(engine.py());
    conclude(engine, socket)
}

/// Says what had to wait for coroutines, if there are none any more.
fn conclude(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>) -> PyResult<()> {
    let py = engine.py();
    if socket.get().has_coroutines(py) || busy_raw(socket).is_some() {
        return Ok(());
    }
    match socket.get().take_ending(py) {
        Some(Ending::With(other)) => conclude(engine, other.bind(py)),
        Some(Ending::LastWords) => {
            if let Some(listener) = socket.get().native_listener(py) {
                listener.get().remove_last_words(py);
            }
            Ok(())
        }
        Some(ending) => {
            engine.get().core.with(mantou_engine::Engine::unhold)?;
            say_goodbye(engine, socket, &ending);
            Ok(())
        }
        None => Ok(()),
    }
}

/// The socket that this one was upgraded from, if coroutines of its handlers still wait.
fn busy_raw<'py>(socket: &Bound<'py, Socket>) -> Option<Bound<'py, Socket>> {
    let py = socket.py();
    let raw = socket.get().raw(py)?.into_bound(py);
    raw.get().has_coroutines(py).then_some(raw)
}

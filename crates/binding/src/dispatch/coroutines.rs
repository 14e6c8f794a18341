//! Async handlers: the first step at once, the rest as a task, one after another.
//!
//! While a handler's coroutine waits, its socket is held: nothing more is read for it and no other
//! handler is called but `timeout`, which decides whether to go on waiting. When the connection is
//! gone the coroutine is cancelled, and `close` is called once it has ended.

use pyo3::prelude::*;

use super::calls::{Watch, is_cancellation, weigh};
use super::endings::{give_up_idle, say_goodbye};
use super::{Stage, Verdict};
use crate::engine::Engine;
use crate::socket::{Ending, Socket};

impl Stage {
    /// Whether the coroutine of such a handler keeps the socket's other handlers waiting.
    fn holds(self) -> bool {
        !matches!(self, Stage::Timeout | Stage::Close | Stage::ConnectError)
    }
}

/// Runs an async handler up to its first wait; the rest of it will be a task.
pub(super) fn begin(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    stage: Stage,
    cause: Option<&Bound<'_, PyAny>>,
    coroutine: &Bound<'_, PyAny>,
) -> Verdict {
    let py = socket.py();
    let context = socket.get().context();
    let host = &engine.get().host;
    let result = context.enter(py).and_then(|_entered| {
        let watch = Watch::start(engine);
        let result = host.begin(socket, stage as u8, cause, coroutine, context.object(py));
        watch.stop(engine, socket, stage, coroutine);
        result
    });
    match result {
        Ok(None) => {
            socket.get().add_coroutine(py, stage.holds());
            if stage.holds() {
                hold(socket, true);
            }
            Verdict::Later
        }
        // It never waited: as if it had been a plain function.
        Ok(Some(result)) => weigh(engine, socket, stage, cause, Ok(result)),
        Err(error) if is_cancellation(py, &error) => Verdict::Default,
        Err(error) => weigh(engine, socket, stage, cause, Err(error)),
    }
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
    conclude(engine, socket)
}

/// The connection broke while a coroutine waits.
pub(super) fn on_lost(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>) {
    engine.get().host.cancel(socket);
}

/// The connection is gone: says so, once its coroutines and those of the socket that it was upgraded
/// from have ended. They are cancelled.
pub(super) fn end(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    ending: Ending,
) -> PyResult<()> {
    let py = engine.py();
    let raw = busy_raw(socket);
    if raw.is_none() && !socket.get().has_coroutines(py) {
        say_goodbye(engine, socket, &ending);
        return Ok(());
    }
    engine.get().core.with(mantou_engine::Engine::hold)?;
    socket.get().set_ending(py, ending);
    if let Some(raw) = raw {
        let with = Ending::With(socket.clone().unbind());
        raw.get().set_ending(py, with);
        engine.get().host.cancel(&raw);
    }
    engine.get().host.cancel(socket);
    Ok(())
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

fn hold(socket: &Bound<'_, Socket>, held: bool) {
    let set = socket
        .get()
        .with(socket.py(), |core, token| core.set_held(token, held));
    if let Err(error) = set {
        error.write_unraisable(socket.py(), Some(socket.as_any()));
    }
}

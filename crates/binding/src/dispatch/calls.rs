//! Calling handlers, and acting on what they return or raise.
//!
//! A handler that returns a coroutine has its first step taken at once; the rest is a task. While
//! it waits its socket is held: no other handler is called but `timeout`, which decides whether to
//! go on waiting.

use std::time::Instant;

use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyInt};

use crate::engine::Engine;
use crate::errors;
use crate::socket::Socket;
use crate::stage::Stage;

/// What a handler wants to happen next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Default,
    /// It returned True: the connection stays.
    Keep,
    /// Its coroutine will tell.
    Later,
}

pub(super) fn has_handler(socket: &Bound<'_, Socket>, stage: Stage) -> bool {
    let handlers = socket.get().current_handlers(socket.py());
    handlers.is_some_and(|handlers| handlers.get().of(stage).is_some())
}

/// Calls a handler if there is one.
pub(super) fn call<'py, A>(
    engine: &Bound<'py, Engine>,
    socket: &Bound<'py, Socket>,
    stage: Stage,
    arguments: A,
) -> Verdict
where
    A: PyCallArgs<'py>,
{
    let py = socket.py();
    let Some(handlers) = socket.get().current_handlers(py) else {
        return Verdict::Default;
    };
    let Some(handler) = handlers.get().of(stage) else {
        return match handlers.get().transport() {
            Some(transport) => tell_transport(engine, socket, stage, transport.bind(py), arguments),
            None => Verdict::Default,
        };
    };
    let outcome = invoke(engine, socket, stage, handler.bind(py), arguments);
    conclude(engine, socket, stage, outcome)
}

/// Tells an asyncio transport, which deals itself with what its protocol raises: what comes out of
/// it is for whoever runs the loop.
#[cold]
fn tell_transport<'py, A>(
    engine: &Bound<'py, Engine>,
    socket: &Bound<'py, Socket>,
    stage: Stage,
    transport: &Bound<'py, PyAny>,
    arguments: A,
) -> Verdict
where
    A: PyCallArgs<'py>,
{
    let py = socket.py();
    // It may be told of its end inside a call of its own, and calls nobody then.
    let calls = !matches!(stage, Stage::Close | Stage::ConnectError);
    let entered = calls.then(|| socket.get().context().enter(py)).transpose();
    let method = format!("_on_{}", stage.name());
    let told = entered.and_then(|_entered| transport.call_method1(&*method, arguments));
    match told {
        Ok(result) if result.is(PyBool::new(py, true)) => Verdict::Keep,
        Ok(_) => Verdict::Default,
        Err(error) => {
            if errors::ends_the_program(py, &error) {
                engine.get().set_fatal(py, error);
            } else {
                let message = format!("a transport failed in {method}");
                engine.get().host.report(py, &message, &error, Some(socket));
            }
            Verdict::Default
        }
    }
}

/// A method of an asyncio protocol raised: its transport reports that and closes.
#[cold]
pub(super) fn protocol_raised(
    engine: &Bound<'_, Engine>,
    transport: &Bound<'_, PyAny>,
    method: &str,
    error: &PyErr,
) {
    let message = format!("Fatal error: protocol.{method}() call failed.");
    broke(engine, transport, &message, error);
}

/// Ends a transport's connection for a reason that asyncio calls fatal.
#[cold]
pub(super) fn broke(
    engine: &Bound<'_, Engine>,
    transport: &Bound<'_, PyAny>,
    message: &str,
    error: &PyErr,
) {
    let py = engine.py();
    if errors::ends_the_program(py, error) {
        return engine.get().set_fatal(py, error.clone_ref(py));
    }
    let error = errors::value_of(py, error);
    if let Err(error) = transport.call_method1(intern!(py, "_fatal_error"), (error, message)) {
        error.write_unraisable(py, Some(transport));
    }
}

/// Calls one handler, in the context of its connection.
#[inline]
pub(super) fn invoke<'py, A>(
    engine: &Bound<'py, Engine>,
    socket: &Bound<'py, Socket>,
    stage: Stage,
    handler: &Bound<'py, PyAny>,
    arguments: A,
) -> PyResult<Bound<'py, PyAny>>
where
    A: PyCallArgs<'py>,
{
    let py = socket.py();
    let _entered = socket.get().context().enter(py)?;
    let watch = Watch::start(engine);
    let outcome = handler.call1(arguments);
    watch.stop(engine, socket, stage.name(), handler);
    outcome
}

#[cold]
fn tell(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    name: &str,
    what: &Bound<'_, PyAny>,
    start: Instant,
) {
    let host = &engine.get().host;
    host.called(what, name, socket, start.elapsed());
}

/// In debug mode: has handlers, and what else of the user's is called, named if they take long.
pub(super) struct Watch(Option<Instant>);

impl Watch {
    #[inline]
    pub fn start(engine: &Bound<'_, Engine>) -> Self {
        let debugged = engine.get().is_debugged(engine.py());
        Self(debugged.then(Instant::now))
    }

    #[inline]
    pub fn stop(
        self,
        engine: &Bound<'_, Engine>,
        socket: &Bound<'_, Socket>,
        name: &str,
        what: &Bound<'_, PyAny>,
    ) {
        if let Some(start) = self.0 {
            tell(engine, socket, name, what, start);
        }
    }
}

#[inline]
pub(super) fn conclude<'py>(
    engine: &Bound<'py, Engine>,
    socket: &Bound<'py, Socket>,
    stage: Stage,
    outcome: PyResult<Bound<'py, PyAny>>,
) -> Verdict {
    match outcome {
        Ok(result) if result.is_none() => Verdict::Default,
        outcome => weigh(engine, socket, stage, None, outcome),
    }
}

/// Looks at what a handler returned or raised. `cause` is what `error` was called for.
pub(super) fn weigh(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    stage: Stage,
    cause: Option<&Bound<'_, PyAny>>,
    outcome: PyResult<Bound<'_, PyAny>>,
) -> Verdict {
    match outcome {
        // A coroutine's mostly, whose end is not to be asked whether it is one.
        Ok(result) if result.is_none() => Verdict::Default,
        Ok(result) if result.is_instance_of::<PyBool>() => {
            if result.is_truthy().unwrap_or(false) {
                Verdict::Keep
            } else {
                Verdict::Default
            }
        }
        Ok(result) if is_coroutine(&result) => begin(engine, socket, stage, cause, &result),
        Ok(_) => Verdict::Default,
        Err(error) => {
            on_raised(engine, socket, stage, &error);
            // An idle timeout whose handler raised has closed the socket already, or kept it.
            if stage == Stage::Timeout {
                Verdict::Keep
            } else {
                Verdict::Default
            }
        }
    }
}

/// Runs an async handler up to its first wait; the rest of it will be a task.
fn begin(
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
        watch.stop(engine, socket, stage.name(), coroutine);
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

/// While a coroutine waits nothing more is read, and nothing but a broken connection reported.
pub(super) fn hold(socket: &Bound<'_, Socket>, held: bool) {
    let set = socket
        .get()
        .with(socket.py(), |core, token| core.set_held(token, held));
    if let Err(error) = set {
        error.write_unraisable(socket.py(), Some(socket.as_any()));
    }
}

/// A handler raised: `error` is told, or else the loop; then the connection is closed.
pub(super) fn on_raised(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    stage: Stage,
    error: &PyErr,
) {
    let py = engine.py();
    if leaves_the_loop(py, error) {
        return engine.get().set_fatal(py, error.clone_ref(py));
    }
    let message = format!("the {} handler raised an exception", stage.name());
    if matches!(stage, Stage::Close | Stage::Error) {
        return engine.get().host.report(py, &message, error, Some(socket));
    }
    let value = errors::value_of(py, error);
    let value = value.as_any();
    let handlers = socket.get().current_handlers(py);
    let handler = handlers
        .as_ref()
        .and_then(|handlers| handlers.get().of(Stage::Error));
    let verdict = if let Some(handler) = handler {
        let outcome = invoke(
            engine,
            socket,
            Stage::Error,
            handler.bind(py),
            (socket, value),
        );
        weigh(engine, socket, Stage::Error, Some(value), outcome)
    } else {
        engine.get().host.report(py, &message, error, Some(socket));
        Verdict::Default
    };
    if verdict == Verdict::Default
        && let Err(error) = socket.get().close_for(py, value.clone().unbind())
    {
        error.write_unraisable(py, Some(socket.as_any()));
    }
}

pub(super) fn is_coroutine(result: &Bound<'_, PyAny>) -> bool {
    static COROUTINE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static OWN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // The commonest result by far besides None is that of a write().
    if result.is_instance_of::<PyInt>() {
        return false;
    }
    // Asking an abstract class is slow, and hardly anybody's coroutines are not Python's own.
    let own = OWN.import(result.py(), "types", "CoroutineType");
    if own.is_ok_and(|own| result.get_type().is(own)) {
        return true;
    }
    let class = COROUTINE.import(result.py(), "collections.abc", "Coroutine");
    class.is_ok_and(|class| result.is_instance(class).unwrap_or(false))
}

/// `KeyboardInterrupt` and its like are not for handlers to deal with.
pub(super) fn leaves_the_loop(py: Python<'_>, error: &PyErr) -> bool {
    !error.is_instance_of::<PyException>(py) && !is_cancellation(py, error)
}

pub(super) fn is_cancellation(py: Python<'_>, error: &PyErr) -> bool {
    static CANCELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CANCELLED.import(py, "asyncio", "CancelledError");
    class.is_ok_and(|class| error.is_instance(py, class))
}

//! Where engine and Python meet: events come out of the engine, handlers are called.
//!
//! The engine is never borrowed while Python runs. After each call everything may have changed:
//! the socket closed, its slot taken by another, the handlers replaced; so whatever is needed
//! next is asked for again, by token.

use std::time::{Duration, Instant};

use mantou_engine::tls::TlsError;
use mantou_engine::{
    Accepted, CloseReason, Event, Events, Notice, Pumped, Read, Ready, Target, Token,
};
use pyo3::call::PyCallArgs;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyInt};

use crate::buffers;
use crate::engine::{Engine, Owner};
use crate::errors;
use crate::handlers::BinaryType;
use crate::listener::Listener;
use crate::socket::Socket;
use crate::tls;

/// Bytes that one socket gets in one turn.
const READ_LIMIT: usize = 512 * 1024;
/// Connections that one listener gets in one turn.
const ACCEPT_LIMIT: usize = 1024;
/// After so long a turn leaves the rest of its events to the next, so that asyncio gets its share.
const SLICE: Duration = Duration::from_millis(1);
/// Bytes per read.
const BUFFER_SIZE: usize = 256 * 1024;
/// Handlers called at the end may make work; more rounds than this they do not get.
const LAST_ROUNDS: usize = 100;

/// What a turn works with.
pub struct Work {
    pub events: Events,
    /// The first event that is not handled yet.
    pub next: usize,
    buffer: Vec<u8>,
    /// The last question for events came back empty.
    pub was_idle: bool,
    /// When the interpreter's lock was last handed over.
    pub lock_taken: Instant,
    /// When it is to be handed over again.
    pub lock_hold: Duration,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            events: Events::default(),
            next: 0,
            buffer: vec![0; BUFFER_SIZE],
            was_idle: false,
            lock_taken: Instant::now(),
            lock_hold: Duration::ZERO,
        }
    }
}

impl Work {
    pub fn has_events(&self) -> bool {
        self.next < self.events.len()
    }
}

/// The handler that a result or an exception came from.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    Open,
    Data,
    Drain,
    End,
    Close,
    Error,
    Timeout,
    ConnectError,
    Handshake,
}

impl Stage {
    const ALL: [Stage; 9] = [
        Stage::Open,
        Stage::Data,
        Stage::Drain,
        Stage::End,
        Stage::Close,
        Stage::Error,
        Stage::Timeout,
        Stage::ConnectError,
        Stage::Handshake,
    ];

    pub fn from_number(number: u8) -> PyResult<Self> {
        let stage = Self::ALL.get(usize::from(number)).copied();
        stage.ok_or_else(|| PyValueError::new_err(format!("no such handler: {number}")))
    }

    fn name(self) -> &'static str {
        match self {
            Stage::Open => "open",
            Stage::Data => "data",
            Stage::Drain => "drain",
            Stage::End => "end",
            Stage::Close => "close",
            Stage::Error => "error",
            Stage::Timeout => "timeout",
            Stage::ConnectError => "connect_error",
            Stage::Handshake => "handshake",
        }
    }
}

/// What a handler wants to happen next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Default,
    /// It returned True: the connection stays.
    Keep,
    /// Its coroutine will tell.
    Later,
}

// Turns

/// Handles the events of the last wait, or as many as fit into one turn.
pub fn turn(engine: &Bound<'_, Engine>, work: &mut Work) -> PyResult<()> {
    let core = &engine.get().core;
    core.with(mantou_engine::Engine::begin_turn)?;
    let start = Instant::now();
    while work.has_events() {
        let event = work.events.target(work.next);
        work.next += 1;
        if let Some((Target::Member(token), ready)) = event {
            on_member(engine, work, token, ready)?;
            core.with(mantou_engine::Engine::sync_dirty)?;
            if start.elapsed() > SLICE {
                break;
            }
        }
    }
    let count = core.with(|core| core.notices())?;
    handle_notices(engine, work, count)?;
    core.with(mantou_engine::Engine::end_turn)
}

fn handle_notices(engine: &Bound<'_, Engine>, work: &mut Work, count: usize) -> PyResult<()> {
    for _ in 0..count {
        match engine.get().core.with(mantou_engine::Engine::take_notice)? {
            Some(Notice::Closed(token, reason)) => on_closed(engine, token, &reason)?,
            Some(Notice::Idle(token)) => on_idle(engine, token)?,
            Some(Notice::Pump(token)) => {
                if let Some(Owner::Socket(socket)) = engine.get().owner(engine.py(), token) {
                    let socket = socket.bind(engine.py());
                    pump(engine, socket, token, &PyBytes::new(engine.py(), b""))?;
                    read(engine, work, socket, token)?;
                }
            }
            Some(Notice::Unread(token)) => {
                if let Some(Owner::Socket(socket)) = engine.get().owner(engine.py(), token) {
                    let socket = socket.bind(engine.py());
                    if socket.get().is_new(engine.py()) {
                        opened(engine, socket, token)?;
                    }
                    read(engine, work, socket, token)?;
                }
            }
            None => break,
        }
    }
    Ok(())
}

fn on_member(
    engine: &Bound<'_, Engine>,
    work: &mut Work,
    token: Token,
    ready: Ready,
) -> PyResult<()> {
    let py = engine.py();
    let event = engine.get().core.with(|core| core.on_ready(token, ready))?;
    if event == Event::Nothing {
        return Ok(());
    }
    match (event, engine.get().owner(py, token)) {
        (Event::Stream { readable, drained }, Some(Owner::Socket(socket))) => {
            let socket = socket.bind(py);
            if drained {
                on_drain(engine, socket);
            }
            socket.get().settle_sent(py)?;
            // Its `drain` may have given the connection to a TLS socket.
            if readable && (!drained || socket.get().owns(py, token)) {
                read(engine, work, socket, token)?;
            }
            Ok(())
        }
        // Its owner is done with it; what still comes in is swallowed.
        (Event::Stream { readable: true, .. }, None) => {
            let buffer = &mut work.buffer;
            engine
                .get()
                .core
                .with(|core| core.read(token, buffer))
                .map(drop)
        }
        (Event::Listener, Some(Owner::Listener(listener))) => {
            accept(engine, listener.bind(py), token)
        }
        (Event::Attempt, Some(Owner::Attempt(attempt))) => {
            let outcome = engine.get().core.with(|core| core.check_attempt(token))?;
            if outcome.is_err() {
                drop(engine.get().take_owner(py, token));
            }
            if let Some(callback) = attempt.get().take_callback(py) {
                let error = outcome
                    .err()
                    .map(|error| errors::from_io(&error).into_value(py));
                if let Err(error) = callback.call1(py, (error,)) {
                    engine.get().host.report(
                        py,
                        "connecting failed in mantou itself",
                        &error,
                        None,
                    );
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn read(
    engine: &Bound<'_, Engine>,
    work: &mut Work,
    socket: &Bound<'_, Socket>,
    token: Token,
) -> PyResult<()> {
    let core = &engine.get().core;
    let mut left = READ_LIMIT;
    while left > 0 {
        let room = BUFFER_SIZE.min(left);
        let buffer = &mut work.buffer[..room];
        match core.with(|core| core.read(token, buffer))? {
            Read::Data { n, more } => {
                on_data(engine, work, socket, n);
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
                on_end(engine, socket);
                return core.with(|core| core.end_handled(token));
            }
            Read::Ciphertext(n) => {
                let ciphertext = PyBytes::new(engine.py(), &work.buffer[..n]);
                pump(engine, socket, token, &ciphertext)?;
                left = left.saturating_sub(n);
            }
            Read::Established => on_established(engine, socket, token)?,
            Read::Broken(error) => return on_broken(engine, socket, &error),
            Read::Nothing => return Ok(()),
        }
    }
    // What TLS has opened already is not reported by the kernel again.
    core.with(|core| core.remind_if_unread(token))
}

/// Has the socket's own driver of TLS open `ciphertext`, and seal what waits to be sent.
fn pump(
    engine: &Bound<'_, Engine>,
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
    core.with(|core| core.pumped(token, &pumped))
}

#[inline]
fn on_data(engine: &Bound<'_, Engine>, work: &mut Work, socket: &Bound<'_, Socket>, n: usize) {
    let py = socket.py();
    let Some(handlers) = socket.get().current_handlers(py) else {
        return;
    };
    let handlers = handlers.get();
    let Some(handler) = &handlers.data else {
        return;
    };
    let handler = handler.bind(py);
    let outcome = match handlers.binary_type {
        BinaryType::Bytes => handler.call1((socket, PyBytes::new(py, &work.buffer[..n]))),
        BinaryType::Bytearray => handler.call1((socket, PyByteArray::new(py, &work.buffer[..n]))),
        BinaryType::Memoryview => call_with_loan(work, handler, socket, n),
    };
    conclude(engine, socket, Stage::Data, outcome);
}

/// Lends the buffer itself for the time of the call.
fn call_with_loan<'py>(
    work: &mut Work,
    handler: &Bound<'py, PyAny>,
    socket: &Bound<'py, Socket>,
    n: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let (loan, view) = buffers::lend(socket.py(), &mut work.buffer, n)?;
    let outcome = handler.call1((socket, &view));
    let returned = buffers::reclaim(&loan, &view);
    work.buffer = match &returned {
        Ok(Some(_)) => returned?.unwrap_or_default(),
        _ => vec![0; BUFFER_SIZE],
    };
    outcome
}

fn on_drain(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>) {
    call(engine, socket, Stage::Drain, (socket,));
}

fn on_end(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>) {
    call(engine, socket, Stage::End, (socket,));
}

// Beginnings

fn accept(
    engine: &Bound<'_, Engine>,
    listener: &Bound<'_, Listener>,
    token: Token,
) -> PyResult<()> {
    let py = engine.py();
    let this = engine.get();
    for _ in 0..ACCEPT_LIMIT {
        match this.core.with(|core| core.accept(token))? {
            Accepted::Stream(stream) => accepted(engine, listener, stream)?,
            Accepted::Empty => break,
            Accepted::Starved(error, first) => {
                if first {
                    this.host.starved(py, &errors::from_io(&error));
                }
                break;
            }
            Accepted::Failed(error) => {
                let error = errors::from_io(&error);
                let owner = listener.get().owner(py);
                let owner = owner.as_ref().map(|owner| owner.bind(py));
                this.host
                    .report(py, "a listener broke and was stopped", &error, owner);
                return listener.get().stop_accepting(py);
            }
        }
    }
    Ok(())
}

fn accepted(
    engine: &Bound<'_, Engine>,
    listener: &Bound<'_, Listener>,
    token: Token,
) -> PyResult<()> {
    let py = engine.py();
    let from = listener.get();
    let data = from.data(py);
    let socket = Socket::new(
        engine.clone().unbind(),
        None,
        Some(listener.clone().unbind()),
        data,
        "localhost",
    );
    let socket = Bound::new(py, socket)?;
    if let Some(context) = from.context(py) {
        let driver = tls::server_driver(py, &context)?;
        socket.get().set_driver(py, Some(driver));
    }
    from.add_connection(py);
    engine
        .get()
        .set_owner(py, token, Owner::Socket(socket.clone().unbind()));
    if let Some(factory) = from.data_factory(py) {
        // It may ask who is there.
        socket.get().start(py, token);
        match factory.bind(py).call1((&socket,)) {
            Ok(data) => socket.get().set_data(py, data.unbind()),
            Err(error) => return refuse(engine, &socket, token, &error),
        }
    }
    opened(engine, &socket, token)?;
    if from.closes_all(py) {
        // Stopped by its factory, before it could be told.
        socket.get().close(py)?;
    }
    Ok(())
}

/// Lets go of an accepted connection that never opened.
fn refuse(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    token: Token,
    why: &PyErr,
) -> PyResult<()> {
    let py = engine.py();
    if engine.get().take_owner(py, token).is_some() {
        let farewell = engine.get().core.with(|core| {
            core.terminate(token);
            core.release(token)
        })?;
        socket.get().finish(py, farewell);
        if let Some(listener) = socket.get().native_listener(py) {
            listener.get().remove_connection(py);
        }
    }
    if leaves_the_loop(py, why) {
        socket.get().fail(py);
        return Err(why.clone_ref(py));
    }
    let handled = socket
        .get()
        .current_handlers(py)
        .is_some_and(|all| all.get().of(Stage::ConnectError).is_some());
    if !handled {
        engine
            .get()
            .host
            .report(py, "data_factory raised an exception", why, Some(socket));
    }
    connect_failed(engine, socket, errors::value_of(py, why).as_any());
    Ok(())
}

/// The transport is there: calls `open`, unless that has to wait for a TLS handshake. Returns the
/// exception that `open` raised, if the connection is closed for it.
pub fn opened(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    token: Token,
) -> PyResult<Option<Py<PyAny>>> {
    let py = engine.py();
    let core = &engine.get().core;
    let secure = core.with(|core| core.is_handshaking(token))?;
    if secure && !has_handler(socket, Stage::Handshake) {
        socket.get().start_handshake(py, token);
    } else {
        socket.get().start(py, token);
        call(engine, socket, Stage::Open, (socket,));
    }
    socket.get().forget_tls_start(py);
    if socket.get().owns(py, token) {
        core.with(|core| core.begin_handshake(token))?;
    }
    engine.get().check_fatal(py)?;
    Ok(socket.get().failure(py))
}

/// The TLS handshake is done.
fn on_established(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    token: Token,
) -> PyResult<()> {
    let py = engine.py();
    if socket.get().is_shaking_hands(py) {
        socket.get().start(py, token);
        call(engine, socket, Stage::Open, (socket,));
    }
    if has_handler(socket, Stage::Handshake) {
        let error = socket.get().authorization_error(py)?;
        call(engine, socket, Stage::Handshake, (socket, true, error));
    }
    if socket.get().failure(py).is_none() {
        socket.get().settle_secured(py, None);
    }
    Ok(())
}

/// An established TLS session broke: `error` is told, then the connection is closed.
fn on_broken(
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

fn has_handler(socket: &Bound<'_, Socket>, stage: Stage) -> bool {
    let handlers = socket.get().current_handlers(socket.py());
    handlers.is_some_and(|handlers| handlers.get().of(stage).is_some())
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

// Ends

fn on_idle(engine: &Bound<'_, Engine>, token: Token) -> PyResult<()> {
    let py = engine.py();
    let Some(Owner::Socket(socket)) = engine.get().owner(py, token) else {
        return Ok(());
    };
    let socket = socket.bind(py);
    if !socket.get().is_open(py)? {
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
        .give_up_for(py, error.into_value(py).into_any())
}

fn on_closed(engine: &Bound<'_, Engine>, token: Token, reason: &CloseReason) -> PyResult<()> {
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
    let failure = failure.or_else(|| this.take_driver_error(py));
    let error = failure.or_else(|| errors::from_close(py, reason));
    let error = error.as_ref().map(|error| error.bind(py));
    if handshaking {
        let why = error
            .cloned()
            .unwrap_or_else(|| errors::aborted_handshake(py));
        if never_opened {
            connect_failed(engine, socket, &why);
        } else {
            call(engine, socket, Stage::Handshake, (socket, false, &why));
        }
        this.settle_secured(py, Some(&why));
    }
    if let Some(raw) = this.take_raw(py) {
        // The socket that this one took the connection over from ends with it, just before.
        let raw = raw.bind(py);
        raw.get().finish_detached(py);
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
    Ok(())
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
                    .with(|core| core.abandon(token, &mut work.buffer))?;
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

// Calling handlers

/// Calls a handler if there is one.
fn call<'py, A>(
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
        return Verdict::Default;
    };
    let outcome = handler.bind(py).call1(arguments);
    conclude(engine, socket, stage, outcome)
}

#[inline]
fn conclude<'py>(
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
fn weigh(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    stage: Stage,
    cause: Option<&Bound<'_, PyAny>>,
    outcome: PyResult<Bound<'_, PyAny>>,
) -> Verdict {
    match outcome {
        Ok(result) if result.is_instance_of::<PyBool>() => {
            if result.is_truthy().unwrap_or(false) {
                Verdict::Keep
            } else {
                Verdict::Default
            }
        }
        Ok(result) if is_coroutine(&result) => {
            engine.get().host.spawn(socket, stage, &result, cause);
            Verdict::Later
        }
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

/// An async handler has come to its end; what it says counts as if it had said so at once.
pub fn finished(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    stage: Stage,
    cause: Option<&Bound<'_, PyAny>>,
    outcome: PyResult<Bound<'_, PyAny>>,
) {
    let py = engine.py();
    let verdict = weigh(engine, socket, stage, cause, outcome);
    let closed = match (stage, verdict, cause) {
        (Stage::Timeout, Verdict::Default, _) => give_up_idle(socket),
        (Stage::Error, Verdict::Default, Some(cause)) => {
            socket.get().close_for(py, cause.clone().unbind())
        }
        _ => Ok(()),
    };
    if let Err(error) = closed {
        error.write_unraisable(py, Some(socket.as_any()));
    }
}

/// A handler raised: `error` is told, or else the loop; then the connection is closed.
fn on_raised(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>, stage: Stage, error: &PyErr) {
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
        let outcome = handler.bind(py).call1((socket, value));
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

fn is_coroutine(result: &Bound<'_, PyAny>) -> bool {
    static COROUTINE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // The commonest result by far besides None is that of a write().
    if result.is_instance_of::<PyInt>() {
        return false;
    }
    let class = COROUTINE.import(result.py(), "collections.abc", "Coroutine");
    class.is_ok_and(|class| result.is_instance(class).unwrap_or(false))
}

/// `KeyboardInterrupt` and its like are not for handlers to deal with.
fn leaves_the_loop(py: Python<'_>, error: &PyErr) -> bool {
    !error.is_instance_of::<PyException>(py) && !is_cancellation(py, error)
}

fn is_cancellation(py: Python<'_>, error: &PyErr) -> bool {
    static CANCELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CANCELLED.import(py, "asyncio", "CancelledError");
    class.is_ok_and(|class| error.is_instance(py, class))
}

//! Where engine and Python meet: events come out of the engine, handlers are called.
//!
//! The engine is never borrowed while Python runs. After each call everything may have changed:
//! the socket closed, its slot taken by another, the handlers replaced; so whatever is needed
//! next is asked for again, by token.

use std::time::{Duration, Instant};

use mantou_engine::{Event, Events, Notice, Pumped, Read, Ready, Target, Token};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::buffers;
use crate::engine::{Engine, Owner};
use crate::errors;
use crate::handlers::BinaryType;
use crate::socket::Socket;

mod beginnings;
mod calls;
mod endings;

use beginnings::{accept, on_established};
pub use beginnings::{connect_failed, opened};
pub use calls::finished;
use calls::{call, conclude};
pub use endings::end_all;
use endings::{on_broken, on_closed, on_idle};

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
    pub const ALL: [Stage; 9] = [
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

    pub fn name(self) -> &'static str {
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
            Some(Notice::Connected(token)) => {
                if let Some(Owner::Attempt(attempt)) = engine.get().owner(engine.py(), token) {
                    attempt.get().settle(engine.py(), None);
                }
            }
            Some(Notice::NotConnected(token, error)) => {
                if let Some(Owner::Attempt(attempt)) = engine.get().take_owner(engine.py(), token) {
                    let error = error.map_or_else(errors::late, |error| errors::from_io(&error));
                    attempt.get().settle(engine.py(), Some(&error));
                }
            }
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
    let Some(handler) = handlers.of(Stage::Data) else {
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

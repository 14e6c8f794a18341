//! Where engine and Python meet: events come out of the engine, handlers are called.
//!
//! The engine is never borrowed while Python runs. After each call everything may have changed:
//! the socket closed, its slot taken by another, the handlers replaced; so whatever is needed
//! next is asked for again, by token.

use std::time::{Duration, Instant};

use mantou_engine::{Event, Events, Notice, Ready, Target, Token};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffers::ReadBuffer;
use crate::cell::has_company;
use crate::engine::{Engine, Owner};
use crate::errors;
use crate::socket::Socket;

mod beginnings;
mod calls;
mod endings;
mod reading;

use beginnings::accept;
pub use beginnings::{connect_failed, opened};
use calls::call;
pub use calls::finished;
pub use endings::{conclude_end, end_all};
use endings::{on_closed, on_idle};
use reading::{pump, read};

/// Connections that one listener gets in one turn.
const ACCEPT_LIMIT: usize = 1024;
/// After so long a turn leaves the rest of its events to the next, so that asyncio gets its share.
const SLICE: Duration = Duration::from_millis(1);
/// After so long a turn offers the interpreter's lock to other threads, if there are any. Who waits
/// for it is woken by that, mostly too late, so there have to be many offers.
const OFFER: Duration = Duration::from_micros(50);
/// Bytes per read.
const BUFFER_SIZE: usize = 512 * 1024;
/// Handlers called at the end may make work; more rounds than this they do not get.
const LAST_ROUNDS: usize = 100;

/// What a turn works with.
pub struct Work {
    pub events: Events,
    /// The first event that is not handled yet.
    pub next: usize,
    buffer: ReadBuffer,
    /// Bytes that the last read brought; the next is likely to bring about as many.
    last_read: usize,
    /// The last question for events came back empty.
    pub was_idle: bool,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            events: Events::default(),
            next: 0,
            buffer: ReadBuffer::new(BUFFER_SIZE),
            last_read: 0,
            was_idle: false,
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
    let mut offer = OFFER;
    while work.has_events() {
        let event = work.events.target(work.next);
        work.next += 1;
        if let Some((Target::Member(next), _)) = work.events.target(work.next) {
            engine.get().prefetch(engine.py(), next)?;
        }
        if let Some((Target::Member(token), ready)) = event {
            on_member(engine, work, token, ready)?;
            core.with(mantou_engine::Engine::sync_dirty)?;
            let elapsed = start.elapsed();
            if elapsed > offer {
                if elapsed > SLICE {
                    break;
                }
                offer = elapsed + OFFER;
                if has_company(engine.py()) {
                    engine.py().detach(std::thread::yield_now);
                }
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
            let buffer = work.buffer.memory();
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

fn on_drain(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>) {
    call(engine, socket, Stage::Drain, (socket,));
}

fn on_end(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>) {
    call(engine, socket, Stage::End, (socket,));
}

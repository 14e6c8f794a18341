//! A turn: what became of each event, and what is to be told between events.

use std::time::{Duration, Instant};

use mantou_engine::{Event, Notice, Ready, Target, Token};
use pyo3::prelude::*;

use super::beginnings::{accept, opened};
use super::calls::call;
use super::endings::{on_closed, on_idle, on_lost};
use super::greetings::greeted;
use super::pumping::pump;
use super::reading::read;
use crate::attempt::Attempt;
use crate::cell::has_company;
use crate::engine::Engine;
use crate::errors;
use crate::listener::Listener;
use crate::socket::Socket;
use crate::stage::Stage;
use crate::work::Work;

/// After so long a turn leaves the rest of its events to the next, so that asyncio gets its share.
const SLICE: Duration = Duration::from_millis(1);
/// After so long a turn offers the interpreter's lock to other threads, if there are any. Who waits
/// for it is woken by that, mostly too late, so there have to be many offers.
const OFFER: Duration = Duration::from_micros(50);
/// Handlers called at the end may make work; more rounds than this they do not get.
const LAST_ROUNDS: usize = 100;

/// A whole turn: handles the events of the last wait, or as many as fit into one.
pub fn turn(engine: &Bound<'_, Engine>, work: &mut Work) -> PyResult<()> {
    events(engine, work)?;
    engine.get().core.with(mantou_engine::Engine::end_turn)
}

/// Begins a turn and handles events. Whoever has more to do in it ends it.
pub fn events(engine: &Bound<'_, Engine>, work: &mut Work) -> PyResult<()> {
    let core = &engine.get().core;
    core.with(mantou_engine::Engine::begin_turn)?;
    let start = Instant::now();
    let mut offer = OFFER;
    while work.has_events() {
        let event = work.events.target(work.next);
        work.next += 1;
        if let Some((Target::Member(next), _)) = work.events.target(work.next) {
            engine.get().prefetch::<Socket>(engine.py(), next)?;
        }
        if let Some((Target::Member(token), ready)) = event {
            on_member(engine, work, token, ready)?;
            conclude_event(engine, work)?;
            let elapsed = start.elapsed();
            if elapsed > offer {
                if elapsed > SLICE {
                    leave(engine, work, elapsed)?;
                    break;
                }
                offer = elapsed + OFFER;
                if has_company(engine.py()) {
                    engine.py().detach(std::thread::yield_now);
                }
            }
        }
    }
    if !work.has_events() {
        core.with(|core| core.expire(&work.events))?;
    }
    let count = core.with(|core| core.notices())?;
    handle_notices(engine, work, count)
}

/// Leaves the other events to the next turn. Handshakes are what costs most, and what strangers can
/// ask for: they come behind everybody else, and get as much time as those. What does not fit into
/// that the kernel tells of again, behind what has come meanwhile.
#[cold]
#[inline(never)]
fn leave(engine: &Bound<'_, Engine>, work: &mut Work, elapsed: Duration) -> PyResult<()> {
    engine.get().core.with(|core| {
        if work.next > work.handshakes {
            work.for_handshakes += elapsed;
            if work.for_handshakes >= work.for_others {
                work.events.forget_from(work.next);
            }
        } else {
            work.for_others += elapsed;
            let is_handshaking = |token| core.is_handshaking(token);
            work.handshakes = work.events.put_last(work.next, is_handshaking);
        }
        if work.has_events() {
            core.leave_events();
        }
    })
}

/// Has what callbacks have written sealed: by drivers outside the engine, which would come to it in
/// the next turn only. Those behind another notice do.
pub fn seal(engine: &Bound<'_, Engine>, work: &mut Work) -> PyResult<()> {
    let core = &engine.get().core;
    let count = core.with(|core| {
        core.sync_dirty();
        core.notices()
    })?;
    for _ in 0..count {
        match core.with(mantou_engine::Engine::take_next_pump)? {
            Some(token) => on_pump(engine, work, token)?,
            None => break,
        }
    }
    Ok(())
}

/// The same for one connection that is about to end.
pub fn seal_at_last(
    engine: &Bound<'_, Engine>,
    socket: &Bound<'_, Socket>,
    token: Token,
) -> PyResult<()> {
    if engine.get().core.with(|core| core.awaits_driver(token))? {
        // The engine's own may be busy with a turn.
        pump(engine, &mut Work::default(), socket, token, 0)?;
    }
    Ok(())
}

/// Sends what handlers have written, and tells the kernel what changed.
#[inline]
fn conclude_event(engine: &Bound<'_, Engine>, work: &mut Work) -> PyResult<()> {
    let next_pump = |core: &mut mantou_engine::Engine| {
        core.sync_dirty();
        core.take_pump()
    };
    while let Some(token) = engine.get().core.with(next_pump)? {
        on_pump(engine, work, token)?;
    }
    Ok(())
}

fn handle_notices(engine: &Bound<'_, Engine>, work: &mut Work, count: usize) -> PyResult<()> {
    for _ in 0..count {
        match engine.get().core.with(mantou_engine::Engine::take_notice)? {
            Some(Notice::Closed(token, reason)) => on_closed(engine, token, &reason)?,
            Some(Notice::Connected(token)) => {
                if let Some(attempt) = engine.get().owner::<Attempt>(engine.py(), token) {
                    attempt.get().settle(engine.py(), None);
                }
            }
            Some(Notice::NotConnected(token, error)) => {
                let attempt = engine.get().owner::<Attempt>(engine.py(), token);
                drop(engine.get().take_owner(engine.py(), token));
                if let Some(attempt) = attempt {
                    let error = error.map_or_else(errors::late, |error| errors::from_io(&error));
                    attempt.get().settle(engine.py(), Some(&error));
                }
            }
            Some(Notice::Greeted(token, outcome)) => greeted(engine, token, outcome)?,
            Some(Notice::Idle(token)) => on_idle(engine, token)?,
            Some(Notice::Pump(token)) => on_pump(engine, work, token)?,
            Some(Notice::Unread(token)) => {
                if let Some(socket) = engine.get().owner::<Socket>(engine.py(), token) {
                    if socket.get().is_new(engine.py()) {
                        opened(engine, &socket, token)?;
                    }
                    read(engine, work, &socket, token)?;
                }
            }
            None => break,
        }
    }
    Ok(())
}

/// The driver of its TLS has something to seal.
fn on_pump(engine: &Bound<'_, Engine>, work: &mut Work, token: Token) -> PyResult<()> {
    let Some(socket) = engine.get().owner::<Socket>(engine.py(), token) else {
        return Ok(());
    };
    pump(engine, work, &socket, token, 0)?;
    // The kernel tells of what has come; of what was opened nobody else does.
    if engine.get().core.with(|core| core.has_unread(token))? {
        read(engine, work, &socket, token)?;
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
    match event {
        Event::Stream { readable, drained } => on_stream(engine, work, token, readable, drained),
        Event::Lost => {
            if let Some(socket) = engine.get().owner::<Socket>(py, token) {
                on_lost(engine, &socket);
            }
            Ok(())
        }
        Event::Listener => match engine.get().owner::<Listener>(py, token) {
            Some(listener) => accept(engine, &listener, token),
            None => Ok(()),
        },
        Event::Nothing => Ok(()),
    }
}

#[inline]
fn on_stream(
    engine: &Bound<'_, Engine>,
    work: &mut Work,
    token: Token,
    readable: bool,
    drained: bool,
) -> PyResult<()> {
    let py = engine.py();
    let Some(socket) = engine.get().owner::<Socket>(py, token) else {
        // Its owner is done with it; what still comes in is swallowed.
        if readable {
            let buffer = work.buffer.memory();
            engine.get().core.with(|core| core.read(token, buffer))?;
        }
        return Ok(());
    };
    if drained {
        on_drain(engine, &socket);
    }
    socket.get().settle_sent(py)?;
    // Its `drain` may have given the connection to a TLS socket.
    if readable && (!drained || socket.get().owns(py, token)) {
        read(engine, work, &socket, token)?;
    }
    Ok(())
}

fn on_drain(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>) {
    call(engine, socket, Stage::Drain, (socket,));
}

/// The loop ends: nothing is left open, and everybody is told.
pub fn end_all(engine: &Bound<'_, Engine>) -> PyResult<()> {
    let py = engine.py();
    let this = engine.get();
    let mut work = Work::default();
    for token in this.core.with(|core| core.tokens())? {
        if this.core.with(|core| core.cancel_greeting(token))? {
            // It is told so in the rounds below.
        } else if let Some(listener) = this.owner::<Listener>(py, token) {
            let owner = listener.get().owner(py);
            let stopped = match owner {
                Some(owner) => owner.call_method0(py, "stop").map(drop),
                None => listener.get().stop_accepting(py),
            };
            if let Err(error) = stopped {
                error.write_unraisable(py, Some(listener.as_any()));
            }
        } else if this.owner::<Attempt>(py, token).is_some() {
            drop(this.take_owner(py, token));
            this.core.with(|core| core.cancel_attempt(token))?;
        } else {
            let buffer = work.buffer.memory();
            this.core.with(|core| core.abandon(token, buffer))?;
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

//! Waiting for events, and the turns that handle them.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use mantou_engine::{Interest, Target, Token};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::cell::has_company;
use crate::dispatch;
use crate::engine::Engine;
use crate::errors;
use crate::listener::Listener;
use crate::settings;
use crate::socket::Socket;
use crate::stage::Stage;
use crate::work::Work;

/// The selector's bits, as Python's `selectors` has them.
const EVENT_READ: u32 = 1;
const EVENT_WRITE: u32 = 2;

/// A wait that took less found its events there already.
const REAL_WAIT: Duration = Duration::from_micros(20);

impl Engine {
    fn take_work(&self, py: Python<'_>) -> PyResult<Box<Work>> {
        self.work.replace(py, None).ok_or_else(|| {
            PyRuntimeError::new_err("the event loop cannot be run from inside a handler")
        })
    }

    /// The error of whoever wants to watch a descriptor of ours; in asyncio's words.
    fn in_use(&self, py: Python<'_>, fd: RawFd) -> PyResult<PyErr> {
        let token = self.core.with(|core| core.holder(fd))?;
        let token = token.unwrap_or(Token::NONE);
        let user = if let Some(socket) = self.owner::<Socket>(py, token) {
            let handlers = socket.get().current_handlers(py);
            let transport = handlers.as_ref().and_then(|it| it.get().transport());
            let user = transport.map_or(socket.as_any(), |transport| transport.bind(py));
            user.repr()?.to_string()
        } else if let Some(owner) = self
            .owner::<Listener>(py, token)
            .and_then(|it| it.get().owner(py))
        {
            owner.bind(py).repr()?.to_string()
        } else {
            "that is opening or closing".to_owned()
        };
        Ok(PyRuntimeError::new_err(format!(
            "File descriptor {fd} is used by transport {user}"
        )))
    }

    /// Waits for events, unless some of the last wait are still to be handled.
    fn poll(&self, py: Python<'_>, work: &mut Work, patience: Option<Duration>) -> PyResult<()> {
        if work.has_events() {
            return Ok(());
        }
        work.next = 0;
        let in_haste = patience == Some(Duration::ZERO);
        // Sleeping costs more than asking whether that is needed; but where the last question
        // found nothing, the next is likely to find nothing either.
        if in_haste || !work.was_idle {
            let events = &mut work.events;
            let result = if has_company(py) {
                py.detach(|| self.poller.wait(events, Some(Duration::ZERO)))
            } else {
                self.poller.wait(events, Some(Duration::ZERO))
            };
            forgive_interruption(result)?;
            work.was_idle = work.events.is_empty();
            if in_haste || !work.was_idle {
                return Ok(());
            }
        }
        let events = &mut work.events;
        let start = Instant::now();
        forgive_interruption(py.detach(|| self.poller.wait(events, patience)))?;
        work.was_idle = start.elapsed() > REAL_WAIT && work.events.len() < 2;
        Ok(())
    }
}

#[pymethods]
impl Engine {
    // Descriptors of the surrounding event loop

    /// Whether it is one of our sockets'.
    fn uses(&self, fd: RawFd) -> bool {
        self.poller.is_member(fd)
    }

    fn register(&self, py: Python<'_>, fd: RawFd, events: u32) -> PyResult<()> {
        if self.poller.is_member(fd) {
            return Err(self.in_use(py, fd)?);
        }
        let result = self.poller.add_foreign(fd, interest(events));
        result.map_err(|error| errors::from_io(&error))
    }

    fn modify(&self, fd: RawFd, events: u32) -> PyResult<()> {
        let result = self.poller.modify_foreign(fd, interest(events));
        result.map_err(|error| errors::from_io(&error))
    }

    fn unregister(&self, fd: RawFd) -> PyResult<()> {
        let result = self.poller.remove_foreign(fd);
        result.map_err(|error| errors::from_io(&error))
    }

    // Turns

    /// Runs turns until asyncio has something to do: one of its descriptors is ready, something
    /// was put into its queues `ready` or `scheduled`, or `timeout` (seconds) has passed. With
    /// `until_idle` also when nothing is left that keeps the loop alive.
    fn select(
        this: &Bound<'_, Self>,
        timeout: Option<f64>,
        ready: &Bound<'_, PyAny>,
        scheduled: &Bound<'_, PyAny>,
        until_idle: bool,
    ) -> PyResult<Vec<(RawFd, u32)>> {
        let py = this.py();
        let engine = this.get();
        let mut work = engine.take_work(py)?;
        let run = |work: &mut Work| -> PyResult<Vec<(RawFd, u32)>> {
            let deadline = timeout.map(|timeout| Instant::now() + settings::duration(timeout));
            let timers = scheduled.len()?;
            loop {
                if until_idle && !engine.core.with(|core| core.is_referenced())? {
                    return Ok(Vec::new());
                }
                let rest = deadline.map(|end| end.saturating_duration_since(Instant::now()));
                let own = engine.core.with(|core| core.patience())?;
                engine.poll(py, work, shorter(rest, own))?;
                let foreign = foreign_events(work);
                let turned = dispatch::turn(this, work);
                engine.check_fatal(py)?;
                turned?;
                py.check_signals()?;
                let called = !foreign.is_empty() || engine.interrupted.replace(py, false);
                let late = deadline.is_some_and(|end| end <= Instant::now());
                if called || late || ready.len()? > 0 || scheduled.len()? != timers {
                    return Ok(foreign);
                }
            }
        };
        let result = run(&mut work);
        engine.work.replace(py, Some(work));
        result
    }

    /// Runs one turn without waiting.
    fn turn(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let engine = this.get();
        let mut work = engine.take_work(py)?;
        let result = engine
            .poll(py, &mut work, Some(Duration::ZERO))
            .and_then(|()| dispatch::turn(this, &mut work));
        engine.work.replace(py, Some(work));
        if engine.core.is_left_behind() {
            // The loop's own queue is the parent's, too, and would have it run again without end.
            engine.host.stop(py);
        }
        engine.check_fatal(py)?;
        result
    }

    /// An async handler's task is done: with a result, or with the exception that it raised.
    fn handler_finished(
        this: &Bound<'_, Self>,
        socket: &Bound<'_, Socket>,
        stage: u8,
        cause: Option<&Bound<'_, PyAny>>,
        result: Bound<'_, PyAny>,
        error: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let outcome = error.map_or(Ok(result), |error| Err(PyErr::from_value(error)));
        dispatch::finished(this, socket, Stage::from_number(stage)?, cause, outcome)?;
        this.get().check_fatal(this.py())
    }
}

fn forgive_interruption(result: io::Result<()>) -> PyResult<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(errors::from_io(&error)),
        _ => Ok(()),
    }
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn interest(events: u32) -> Interest {
    Interest {
        readable: events & EVENT_READ != 0,
        writable: events & EVENT_WRITE != 0,
        errors: true,
    }
}

/// What a fresh wait found for asyncio.
fn foreign_events(work: &Work) -> Vec<(RawFd, u32)> {
    if work.next > 0 {
        return Vec::new();
    }
    let all = (0..work.events.len()).filter_map(|index| work.events.target(index));
    let foreign = all.filter_map(|(target, ready)| match target {
        Target::Foreign(fd) => {
            let read = if ready.readable { EVENT_READ } else { 0 };
            let write = if ready.writable { EVENT_WRITE } else { 0 };
            Some((fd, read | write))
        }
        Target::Member(_) => None,
    });
    foreign.collect()
}

//! Waiting for events, and the turns that handle them.

use std::io;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::cell::has_company;
use crate::dispatch;
use crate::engine::Engine;
use crate::errors;
use crate::socket::Socket;
use crate::stage::Stage;
use crate::work::Work;

/// A wait that took less found its events there already.
const REAL_WAIT: Duration = Duration::from_micros(20);

impl Engine {
    pub fn take_work(&self, py: Python<'_>) -> PyResult<Box<Work>> {
        self.work.replace(py, None).ok_or_else(|| {
            PyRuntimeError::new_err("the event loop cannot be run from inside a handler")
        })
    }

    /// Waits for events, unless some of the last wait are still to be handled.
    pub fn poll(
        &self,
        py: Python<'_>,
        work: &mut Work,
        patience: Option<Duration>,
    ) -> PyResult<()> {
        if work.has_events() {
            return Ok(());
        }
        work.begin();
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

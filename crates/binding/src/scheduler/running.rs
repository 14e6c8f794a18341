//! Running a callback: in its context, with asyncio's treatment of what it raises.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::clock::monotonic;
use super::handle::Handle;
use super::state::Scheduler;
use crate::errors;

/// Runs what was taken from the ready queue.
#[inline]
pub fn run_ready(scheduler: &Bound<'_, Scheduler>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
    if scheduler.get().is_debugged(scheduler.py()) {
        return run_watched(scheduler, handle);
    }
    run_any(handle)
}

#[inline]
fn run_any(handle: &Bound<'_, PyAny>) -> PyResult<()> {
    match handle.cast::<Handle>() {
        Ok(handle) => run(handle),
        Err(_) => run_foreign(handle),
    }
}

/// One of asyncio's own handles, made for a descriptor or a signal.
fn run_foreign(handle: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = handle.py();
    if !handle.getattr(intern!(py, "_cancelled"))?.is_truthy()? {
        handle.call_method0(intern!(py, "_run"))?;
    }
    Ok(())
}

/// In debug mode: callbacks that take long are named.
fn run_watched(scheduler: &Bound<'_, Scheduler>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
    static WARN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = scheduler.py();
    let start = monotonic();
    run_any(handle)?;
    let took = monotonic() - start;
    let bound: f64 = scheduler
        .getattr(intern!(py, "slow_callback_duration"))?
        .extract()?;
    if took >= bound {
        let warn = WARN.import(py, "mantou._handles", "warn_of_slow")?;
        warn.call1((handle, took))?;
    }
    Ok(())
}

#[pymethods]
impl Handle {
    fn _run(this: &Bound<'_, Self>) -> PyResult<()> {
        run(this)
    }
}

/// Calls the callback, unless it was cancelled. Errors are those that leave the loop.
#[inline]
fn run(handle: &Bound<'_, Handle>) -> PyResult<()> {
    let py = handle.py();
    let Some(call) = handle.get().call(py) else {
        return Ok(());
    };
    let outcome = match handle.get().context().enter(py) {
        Ok(_entered) => call.make(py),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => on_raised(handle, error),
    }
}

#[cold]
fn on_raised(handle: &Bound<'_, Handle>, error: PyErr) -> PyResult<()> {
    static REPORT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = handle.py();
    if errors::ends_the_program(py, &error) {
        return Err(error);
    }
    let report = REPORT.import(py, "mantou._handles", "report")?;
    report.call1((handle, errors::value(py, error)))?;
    Ok(())
}

//! The turn: wait, handle what came for sockets and descriptors, then call what is ready.

use std::time::Duration;

use mantou_engine as core;
use pyo3::prelude::*;

use super::running::run_ready;
use super::state::{Overridden, Scheduler};
use super::timers::Timers;
use crate::dispatch;
use crate::engine::Engine;
use crate::host;
use crate::work::Work;

/// Timers are due so much before their time: what asyncio takes from the clock's resolution.
const RESOLUTION: f64 = 1e-9;
/// No wait is longer, as asyncio's are not.
const LONGEST_WAIT: f64 = 24.0 * 3600.0;

#[pymethods]
impl Scheduler {
    /// Runs turns until the loop is to stop. What asyncio's `run_forever()` calls again and again
    /// returns only then; whoever else calls it gets one turn.
    fn _run_once(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let scheduler = this.get();
        let engine = scheduler.engine(py)?;
        // Of the class, too: what replaces a method there is not seen otherwise.
        Self::_find_overridden(this)?;
        let is_running = scheduler.thread.get(py).is_some();
        let mut work = engine.get().take_work(py)?;
        let result = loop {
            let turned = turn(this, &engine, &mut work);
            let goes_on = is_running && !scheduler.overridden.get(py).run_once;
            if turned.is_err() || !goes_on || scheduler.stopping.get(py) {
                break turned;
            }
        };
        engine.get().work.replace(py, Some(work));
        result
    }

    /// Looks which methods a subclass, or somebody who patched the loop, has replaced.
    fn _find_overridden(this: &Bound<'_, Self>) -> PyResult<()> {
        let overridden = Overridden::of(this)?;
        this.get().overridden.replace(this.py(), overridden);
        Ok(())
    }
}

fn turn(this: &Bound<'_, Scheduler>, engine: &Bound<'_, Engine>, work: &mut Work) -> PyResult<()> {
    let py = this.py();
    let scheduler = this.get();
    tell_if_idle(scheduler, engine)?;
    drop(
        scheduler
            .timers
            .with(py, |timers| timers.take_cancelled(py)),
    );
    // Before it is looked at what there is to do: finding out may run Python, and another thread.
    scheduler.sleeping.replace(py, true);
    let patience = patience(this, engine)?;
    if patience == Some(Duration::ZERO) {
        scheduler.sleeping.replace(py, false);
    }
    let is_fresh = !work.has_events();
    let polled = engine.get().poll(py, work, patience);
    scheduler.sleeping.replace(py, false);
    polled?;
    py.check_signals()?;
    if is_fresh {
        Scheduler::take_foreign(this, work)?;
    }
    // What leaves the loop from a handler does so behind what is ready: that `run_until_complete()` is
    // done, perhaps, which its next call must not find.
    let turned = dispatch::events(engine, work)
        .and_then(|()| enter_due_timers(this))
        .and_then(|()| engine.get().core.with(core::Engine::begin_callbacks))
        .and_then(|()| run_all_ready(this))
        .and_then(|()| dispatch::seal(engine, work));
    // Whatever happened, what was gathered is sent.
    let ended = engine.get().core.with(core::Engine::end_turn);
    engine.get().check_fatal(py)?;
    turned.and(ended)
}

fn tell_if_idle(scheduler: &Scheduler, engine: &Bound<'_, Engine>) -> PyResult<()> {
    let py = engine.py();
    if let Some(waiter) = scheduler.idle_waiter.cloned(py)
        && !engine.get().core.with(|core| core.is_referenced())?
    {
        host::resolve(waiter.bind(py), None);
    }
    Ok(())
}

/// How long there is nothing to do but to wait for events.
fn patience(this: &Bound<'_, Scheduler>, engine: &Bound<'_, Engine>) -> PyResult<Option<Duration>> {
    let py = this.py();
    let scheduler = this.get();
    if scheduler.ready.with(py, |ready| !ready.is_empty()) || scheduler.stopping.get(py) {
        return Ok(Some(Duration::ZERO));
    }
    let own = engine.get().core.with(|core| core.patience())?;
    let Some(due) = scheduler.timers.with(py, |timers| timers.next_due()) else {
        return Ok(own);
    };
    let wait = (due - Scheduler::now(this)?).clamp(0.0, LONGEST_WAIT);
    let wait = Duration::from_secs_f64(if wait.is_nan() { 0.0 } else { wait });
    Ok(Some(own.map_or(wait, |own| own.min(wait))))
}

fn enter_due_timers(this: &Bound<'_, Scheduler>) -> PyResult<()> {
    let py = this.py();
    let scheduler = this.get();
    if scheduler.timers.with(py, |timers| timers.is_empty()) {
        return Ok(());
    }
    let end = Scheduler::now(this)? + RESOLUTION;
    let pop = |timers: &mut Timers| timers.pop_due(py, end);
    while let Some(timer) = scheduler.timers.with(py, pop) {
        scheduler.push(timer.bind(py).as_any());
    }
    Ok(())
}

/// Exactly those that are ready now: what they make ready is for the next turn.
fn run_all_ready(this: &Bound<'_, Scheduler>) -> PyResult<()> {
    let py = this.py();
    let ready = &this.get().ready;
    for _ in 0..ready.with(py, |ready| ready.len()) {
        let Some(handle) = ready.with(py, std::collections::VecDeque::pop_front) else {
            break;
        };
        run_ready(this, handle.bind(py))?;
    }
    Ok(())
}

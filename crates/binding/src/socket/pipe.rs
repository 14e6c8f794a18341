//! Two sockets that are piped: how that begins, and what is told to whoever waits for its end.

use mantou_engine::{CloseReason, Unpipable};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};

use super::{Phase, Socket};
use crate::cell::Guarded;
use crate::errors;
use crate::host;

/// A pair of piped sockets, and the future that its end settles.
#[pyclass(frozen, module = "mantou._core")]
pub struct Pipe {
    ends: [Py<Socket>; 2],
    /// Bytes that each of them had received before, and handed to its handlers.
    before: Guarded<[u64; 2]>,
    future: Py<PyAny>,
    outcome: Guarded<Outcome>,
}

#[derive(Default)]
struct Outcome {
    /// How many of the two connections are gone.
    gone: u8,
    /// At least one of them had not finished both ways.
    is_cut: bool,
    /// Why.
    error: Option<Py<PyAny>>,
}

#[pymethods]
impl Socket {
    /// Joins it with another one. Returns a future of the bytes that went each way.
    fn _pipe<'py>(
        this: &Bound<'py, Self>,
        other: &Bound<'py, Self>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let (one, two) = (this.get(), other.get());
        if this.is(other) {
            return Err(PyValueError::new_err("pipe() got the same socket twice"));
        }
        if !one.engine.is(&two.engine) {
            return Err(PyValueError::new_err(
                "pipe() got sockets of two event loops",
            ));
        }
        let future = one.engine.get().host.future(py)?;
        if one.phase.get(py) != Phase::Open || two.phase.get(py) != Phase::Open {
            return Err(not_open(py, [one, two]));
        }
        let before = [one.delivered(py)?, two.delivered(py)?];
        let second = two.token(py);
        one.with(py, |core, first| core.pipe(first, second))?
            .map_err(|why| match why {
                Unpipable::NotOpen => not_open(py, [one, two]),
                Unpipable::Piped => {
                    PyValueError::new_err("pipe() got a socket that is in another pipe")
                }
                Unpipable::Framed => PyValueError::new_err(
                    "pipe() got a socket with packets; set_packet('raw') ends them",
                ),
            })?;
        let pipe = Pipe {
            ends: [this.clone().unbind(), other.clone().unbind()],
            before: Guarded::new(before),
            future: future.clone().unbind(),
            outcome: Guarded::default(),
        };
        let pipe = Bound::new(py, pipe)?;
        let engine = one.engine.get();
        for token in [one.token(py), second] {
            engine.set_pipe(py, token, pipe.clone().into_any().unbind());
        }
        future.call_method1(intern!(py, "add_done_callback"), (&pipe,))?;
        Ok(future)
    }
}

impl Socket {
    /// Bytes that it has received, without packets whose turn has not come.
    fn delivered(&self, py: Python<'_>) -> PyResult<u64> {
        let waiting = self.with(py, |core, token| core.waiting_len(token))?;
        Ok(self.counters(py)?.0 - waiting as u64)
    }
}

impl Pipe {
    /// So many bytes that it carries were received before it was made.
    pub fn count_early(&self, py: Python<'_>, from: &Bound<'_, Socket>, count: usize) {
        let index = usize::from(!self.ends[0].is(from));
        self.before.with(py, |before| before[index] -= count as u64);
    }

    /// One of the two connections is gone.
    pub fn leave(this: &Bound<'_, Self>, reason: &CloseReason, error: Option<&Py<PyAny>>) {
        let py = this.py();
        let pipe = this.get();
        let is_cut = !matches!(reason, CloseReason::Finished);
        // What broke is the other one, which knows why.
        let follows = matches!(reason, CloseReason::PartnerBroke);
        let error = error.filter(|_| is_cut && !follows);
        let error = error.map(|error| error.clone_ref(py));
        let is_over = pipe.outcome.with(py, |outcome| {
            outcome.gone += 1;
            outcome.is_cut |= is_cut;
            outcome.gone == 2
        });
        if error.is_some() && pipe.outcome.with(py, |outcome| outcome.error.is_none()) {
            pipe.outcome.with(py, |outcome| outcome.error = error);
        }
        if is_over && let Err(error) = Self::settle(this) {
            error.write_unraisable(py, Some(pipe.future.bind(py)));
        }
    }

    fn settle(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let pipe = this.get();
        let outcome = pipe.outcome.replace(py, Outcome::default());
        let future = pipe.future.bind(py);
        // There is nothing left that cancelling it could end.
        future.call_method1(intern!(py, "remove_done_callback"), (this,))?;
        if !outcome.is_cut {
            host::resolve_with(future, &pipe.carried(py)?);
            return Ok(());
        }
        let error = match outcome.error {
            Some(error) => error,
            None => errors::value(py, errors::cut_pipe()).into_any(),
        };
        if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
            host::resolve(future, Some(error.bind(py)));
            // Whoever does not wait has the `close` handlers: nothing went unnoticed.
            future.call_method0(intern!(py, "exception"))?;
        }
        Ok(())
    }

    /// A `PipedBytes`.
    fn carried<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static NEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let ([one, two], before) = (&self.ends, self.before.get(py));
        let counts = (
            one.get().counters(py)?.0 - before[0],
            two.get().counters(py)?.0 - before[1],
        );
        let class = CLASS.import(py, "mantou._pipe", "PipedBytes")?;
        // As a named tuple's own `__new__` does, which is written in Python.
        let new = NEW.get_or_try_init(py, || {
            let new = py.get_type::<PyTuple>().getattr("__new__");
            new.map(Bound::unbind)
        })?;
        new.bind(py).call1((class, counts))
    }
}

#[pymethods]
impl Pipe {
    /// The future is done. If it was cancelled, so are both connections.
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        if future.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            for socket in &self.ends {
                socket.get().terminate(py)?;
            }
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for socket in &self.ends {
            visit.call(socket)?;
        }
        visit.call(&self.future)?;
        self.outcome
            .traverse(&visit, |outcome, visit| visit.call(&outcome.error))
    }
}

/// What broke one of them is the reason, if anything did.
fn not_open(py: Python<'_>, ends: [&Socket; 2]) -> PyErr {
    let mut why = None;
    for socket in ends {
        match socket.why_lost(py) {
            Ok(known) => why = why.or(known),
            Err(error) => return error,
        }
    }
    let text = "only sockets that are open both ways can be piped";
    errors::not_open(py, why, text)
}

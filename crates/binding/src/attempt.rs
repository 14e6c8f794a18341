//! A connection in the making, seen from Python.

use mantou_engine::Token;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::cell::Guarded;
use crate::engine::Engine;
use crate::errors;
use crate::host;

/// One attempt to connect, which may have succeeded already. Else `follow` it.
#[pyclass(frozen, module = "mantou._core")]
pub struct Attempt {
    pub engine: Py<Engine>,
    pub token: Guarded<Token>,
    connected: bool,
    future: Guarded<Option<Py<PyAny>>>,
}

impl Attempt {
    pub fn new(engine: Py<Engine>, token: Token, connected: bool) -> Self {
        Self {
            engine,
            token: Guarded::new(token),
            connected,
            future: Guarded::new(None),
        }
    }

    pub fn settle(&self, py: Python<'_>, error: Option<&PyErr>) {
        if let Some(future) = self.future.replace(py, None) {
            let error = error.map(|error| errors::value_of(py, error).into_any());
            host::resolve(future.bind(py), error.as_ref());
        }
    }
}

#[pymethods]
impl Attempt {
    /// It was connected before there was anything to wait for.
    #[getter]
    fn connected(&self) -> bool {
        self.connected
    }

    /// The future is told how it went, in a later turn: None, or an `OSError`, which is a
    /// `TimeoutError` without an errno if it took too long.
    fn follow(&self, py: Python<'_>, future: Py<PyAny>) {
        drop(self.future.replace(py, Some(future)));
    }

    /// Gives the attempt up; nothing is told any more.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        drop(self.future.replace(py, None));
        let token = self.token.replace(py, Token::NONE);
        let engine = self.engine.get();
        drop(engine.take_owner(py, token));
        engine.core.with(|core| core.cancel_attempt(token))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.engine)?;
        self.future
            .traverse(&visit, |future, visit| visit.call(future))
    }

    fn __clear__(&self) {
        drop(self.future.take());
    }
}

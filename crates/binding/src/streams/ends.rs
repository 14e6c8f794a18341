//! How a stream ends for those who use it, and what they are told: the exceptions are anyio's where
//! that is installed.

use pyo3::call::PyCallArgs;
use pyo3::intern;
use pyo3::prelude::*;

use super::Side;

#[derive(Default)]
pub enum End {
    #[default]
    Open,
    /// We closed it.
    Closed,
    /// Both sides have finished.
    Finished,
    /// The connection broke, for this reason.
    Broken(Py<PyAny>),
}

impl End {
    pub fn seen(&self, py: Python<'_>) -> Self {
        match self {
            Self::Open => Self::Open,
            Self::Closed => Self::Closed,
            Self::Finished => Self::Finished,
            Self::Broken(error) => Self::Broken(error.clone_ref(py)),
        }
    }
}

pub fn busy(py: Python<'_>, side: Side) -> PyErr {
    let action = match side {
        Side::Reading => "reading from",
        Side::Writing => "writing to",
    };
    raised(py, "BusyResourceError", (action,))
}

pub fn broken(py: Python<'_>, error: Py<PyAny>) -> PyErr {
    raised(py, "broken", (error,))
}

/// What something of `mantou._stream_errors` makes.
pub fn raised<'py>(py: Python<'py>, make: &str, arguments: impl PyCallArgs<'py>) -> PyErr {
    let error = (|| {
        let errors = py.import(intern!(py, "mantou._stream_errors"))?;
        errors.getattr(make)?.call1(arguments)
    })();
    match error {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

//! The ready queue as asyncio's own code, and who looks behind the loop's façade, knows it.

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};
use pyo3::{PyTraverseError, PyVisit};

use super::state::Scheduler;

/// The loop's `_ready`.
#[pyclass(frozen, module = "mantou._core")]
pub struct ReadyQueue(pub Py<Scheduler>);

impl ReadyQueue {
    fn handles(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let copy = |handle: &Py<PyAny>| handle.clone_ref(py);
        let ready = &self.0.get().ready;
        ready.with(py, |ready| ready.iter().map(copy).collect())
    }
}

#[pymethods]
impl ReadyQueue {
    fn append(&self, handle: &Bound<'_, PyAny>) {
        self.0.get().push(handle);
    }

    fn clear(&self, py: Python<'_>) {
        drop(
            self.0
                .get()
                .ready
                .replace(py, std::collections::VecDeque::new()),
        );
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.0.get().ready.with(py, |ready| ready.len())
    }

    fn __getitem__(&self, py: Python<'_>, index: isize) -> PyResult<Py<PyAny>> {
        let mut handles = self.handles(py);
        let place = usize::try_from(index)
            .ok()
            .or_else(|| handles.len().checked_sub(index.unsigned_abs()));
        match place {
            Some(place) if place < handles.len() => Ok(handles.swap_remove(place)),
            _ => Err(PyIndexError::new_err("index out of range")),
        }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        PyList::new(py, self.handles(py))?.try_iter()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

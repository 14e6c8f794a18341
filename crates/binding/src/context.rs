//! Context variables: the handlers of each connection run in a context of its own, as those of
//! asyncio's transports do. One of the files with `unsafe`.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// A `contextvars.Context`.
pub struct Context(Py<PyAny>);

impl Context {
    /// A copy of the one that is current here.
    pub fn current(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: the lock is held. It returns a new reference, or null with an exception set.
        let copy = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
        Ok(Self(copy.unbind()))
    }

    /// One that the user gave. What is none is found out when it is entered.
    pub fn of(context: Bound<'_, PyAny>) -> Self {
        Self(context.unbind())
    }

    pub fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        // SAFETY: the lock is held, and `self` is a context. It returns as above.
        let copy =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(self.0.as_ptr()))? };
        Ok(Self(copy.unbind()))
    }

    /// The same context, for whoever takes the connection over.
    pub fn share(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    pub fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.bind(py)
    }

    /// Makes it the current one, for as long as the result lives.
    #[inline]
    pub fn enter<'py>(&'py self, py: Python<'py>) -> PyResult<Entered<'py>> {
        // SAFETY: the lock is held, and `self` is a context.
        if unsafe { ffi::PyContext_Enter(self.0.as_ptr()) } < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Entered(self.0.bind(py)))
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// A context that is the current one.
pub struct Entered<'py>(&'py Bound<'py, PyAny>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // SAFETY: the lock is held; `enter` made it the current one, and whoever entered another
        // meanwhile has left it again.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } < 0 {
            PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), Some(self.0));
        }
    }
}

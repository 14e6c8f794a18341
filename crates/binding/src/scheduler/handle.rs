//! Handles: what `call_soon()` and its kin return. One of the files with `unsafe`.
//!
//! They answer as `asyncio.Handle` and `asyncio.TimerHandle` do, which they claim to be
//! (`__class__`). What is seldom asked is answered by asyncio's own functions, called on them.

use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi, intern};

use super::state::Scheduler;
use crate::cell::Guarded;
use crate::context::Context;

/// A callback that is to be called by the loop. `asyncio.Handle`'s interface.
#[pyclass(frozen, subclass, weakref, freelist = 256, module = "mantou._core")]
pub struct Handle {
    scheduler: Py<Scheduler>,
    /// None once it is cancelled.
    call: Guarded<Option<Call>>,
    context: Context,
    is_cancelled: Guarded<bool>,
    /// In debug mode: where it was made, and what it looked like before it was cancelled.
    source_traceback: Guarded<Option<Py<PyAny>>>,
    shown: Guarded<Option<Py<PyAny>>>,
}

/// What is called. Most callbacks have one argument or none, which need no tuple.
pub struct Call {
    callback: Py<PyAny>,
    arguments: Arguments,
}

pub enum Arguments {
    None,
    One(Py<PyAny>),
    Many(Py<PyTuple>),
}

impl Call {
    pub fn new(callback: Py<PyAny>, arguments: Arguments) -> Self {
        Self {
            callback,
            arguments,
        }
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        let arguments = match &self.arguments {
            Arguments::None => Arguments::None,
            Arguments::One(argument) => Arguments::One(argument.clone_ref(py)),
            Arguments::Many(arguments) => Arguments::Many(arguments.clone_ref(py)),
        };
        Self::new(self.callback.clone_ref(py), arguments)
    }

    pub fn make<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let callback = self.callback.bind(py);
        match &self.arguments {
            Arguments::None => callback.call0(),
            Arguments::One(argument) => callback.call1((argument,)),
            Arguments::Many(arguments) => callback.call1(arguments.bind(py)),
        }
    }
}

impl Handle {
    pub fn new<'py>(
        scheduler: &Bound<'py, Scheduler>,
        call: Call,
        context: Context,
    ) -> PyResult<Bound<'py, Self>> {
        let handle = Self::unmade(scheduler, call, context);
        let handle = Bound::new(scheduler.py(), handle)?;
        have_tracked(handle.as_any());
        Ok(handle)
    }

    fn unmade(scheduler: &Bound<'_, Scheduler>, call: Call, context: Context) -> Self {
        Self {
            scheduler: scheduler.clone().unbind(),
            call: Guarded::new(Some(call)),
            context,
            is_cancelled: Guarded::new(false),
            source_traceback: Guarded::new(None),
            shown: Guarded::new(None),
        }
    }

    /// What is to be called now, if anything is.
    pub fn call(&self, py: Python<'_>) -> Option<Call> {
        self.call
            .with(py, |call| call.as_ref().map(|call| call.clone_ref(py)))
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled.get(py)
    }

    /// In debug mode: it was made by the Python code that is running.
    pub fn trace(&self, py: Python<'_>) -> PyResult<()> {
        static EXTRACT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let extract = EXTRACT.import(py, "asyncio.format_helpers", "extract_stack")?;
        let stack = extract.call0()?;
        drop(self.source_traceback.replace(py, Some(stack.unbind())));
        Ok(())
    }
}

/// Has the garbage collector know the object, which is not so where its memory is used again.
fn have_tracked(object: &Bound<'_, PyAny>) {
    // SAFETY: a live object of a type with support for the collector, whose fields are all set.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}

#[pymethods]
impl Handle {
    /// Drops the callback, which will not be called.
    pub fn cancel(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let handle = this.get();
        if handle.is_cancelled.replace(py, true) {
            return Ok(());
        }
        if handle.scheduler.get().is_debugged(py) {
            let shown = this.repr()?.into_any().unbind();
            drop(handle.shown.replace(py, Some(shown)));
        }
        drop(handle.call.replace(py, None));
        Ok(())
    }

    /// Whether it was cancelled.
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    /// The context that the callback is called in.
    fn get_context<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.context.object(py).clone()
    }

    #[getter]
    fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.call.with(py, |call| {
            call.as_ref().map(|call| call.callback.clone_ref(py))
        })
    }

    #[getter]
    fn _args<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(call) = self.call(py) else {
            return Ok(None);
        };
        match call.arguments {
            Arguments::None => Ok(Some(PyTuple::empty(py))),
            Arguments::One(argument) => PyTuple::new(py, [argument]).map(Some),
            Arguments::Many(arguments) => Ok(Some(arguments.into_bound(py))),
        }
    }

    #[getter]
    fn _cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    #[getter]
    fn _context<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.get_context(py)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<Scheduler> {
        self.scheduler.clone_ref(py)
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.source_traceback.cloned(py)
    }

    #[getter]
    fn _repr(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.shown.cloned(py)
    }

    #[getter]
    #[allow(clippy::unused_self)]
    fn __class__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        handle_class(py).map(|class| class.clone().into_any().unbind())
    }

    fn _repr_info<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        as_asyncio(this.as_any(), "_repr_info")
    }

    fn __repr__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        as_asyncio(this.as_any(), "__repr__")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.scheduler)?;
        self.context.traverse(&visit)?;
        self.source_traceback
            .traverse(&visit, |traceback, visit| visit.call(traceback))?;
        self.call.traverse(&visit, |call, visit| {
            let Some(call) = call else { return Ok(()) };
            visit.call(&call.callback)?;
            match &call.arguments {
                Arguments::None => Ok(()),
                Arguments::One(argument) => visit.call(argument),
                Arguments::Many(arguments) => visit.call(arguments),
            }
        })
    }

    fn __clear__(&self) {
        drop(self.call.take());
    }
}

/// A callback that is to be called at some time. `asyncio.TimerHandle`'s interface.
#[pyclass(frozen, extends = Handle, freelist = 256, module = "mantou._core")]
pub struct TimerHandle {
    when: f64,
    /// The timers have it.
    pub scheduled: Guarded<bool>,
}

impl TimerHandle {
    pub fn new<'py>(
        scheduler: &Bound<'py, Scheduler>,
        when: f64,
        call: Call,
        context: Context,
    ) -> PyResult<Bound<'py, Self>> {
        let timer = Self {
            when,
            scheduled: Guarded::new(true),
        };
        let handle = Handle::unmade(scheduler, call, context);
        let timer = PyClassInitializer::from(handle).add_subclass(timer);
        let timer = Bound::new(scheduler.py(), timer)?;
        have_tracked(timer.as_any());
        Ok(timer)
    }
}

#[pymethods]
impl TimerHandle {
    /// Drops the callback, which will not be called.
    fn cancel(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let handle = this.as_super();
        if !handle.get().is_cancelled(py) && this.get().scheduled.get(py) {
            handle.get().scheduler.get().note_cancelled(py);
        }
        Handle::cancel(handle)
    }

    /// The time at which it is to be called, by the loop's clock.
    fn when(&self) -> f64 {
        self.when
    }

    #[getter]
    fn _when(&self) -> f64 {
        self.when
    }

    #[getter]
    fn _scheduled(&self, py: Python<'_>) -> bool {
        self.scheduled.get(py)
    }

    #[getter]
    #[allow(clippy::unused_self)]
    fn __class__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        timer_class(py).map(|class| class.clone().into_any().unbind())
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.when.into_pyobject(py)?.hash()
    }

    fn __richcmp__<'py>(
        this: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        how: CompareOp,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let name = match how {
            CompareOp::Lt => intern!(py, "__lt__"),
            CompareOp::Le => intern!(py, "__le__"),
            CompareOp::Eq => intern!(py, "__eq__"),
            CompareOp::Ne => intern!(py, "__ne__"),
            CompareOp::Gt => intern!(py, "__gt__"),
            CompareOp::Ge => intern!(py, "__ge__"),
        };
        timer_class(py)?.getattr(name)?.call1((this, other))
    }
}

/// Calls a function of asyncio's class on the handle.
fn as_asyncio<'py>(handle: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let class = handle.getattr(intern!(handle.py(), "__class__"))?;
    class.getattr(name)?.call1((handle,))
}

fn handle_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "asyncio", "Handle")
}

fn timer_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "asyncio", "TimerHandle")
}

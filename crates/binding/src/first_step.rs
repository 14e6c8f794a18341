//! The first step of an async handler: taken within the event, as a task that is kept for it. One of
//! the files with `unsafe`.
//!
//! A handler that never waits needs no task of its own. But its coroutine may ask who is running
//! (`asyncio.timeout()` does), so there has to be one from the first step on. It is given away only
//! to a coroutine that really waits.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit, ffi, intern};

/// A task that has nothing to do yet.
pub struct Reserve {
    event_loop: Py<PyAny>,
    task: Py<PyAny>,
    /// The coroutine that it runs, which becomes the rest of a handler's.
    rest: Py<PyAny>,
}

/// How far a coroutine came.
pub enum Step<'py> {
    /// To its end, with this result.
    Done(Bound<'py, PyAny>),
    /// It waits for this.
    Waits(Bound<'py, PyAny>),
}

impl Reserve {
    /// What Python made: the loop, the task, its coroutine.
    pub fn of(made: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let (event_loop, task, rest) = made.extract()?;
        Ok(Self {
            event_loop,
            task,
            rest,
        })
    }

    /// One that was cancelled is of no use to others.
    pub fn is_fresh(&self, py: Python<'_>) -> PyResult<bool> {
        let asks =
            |question| -> PyResult<bool> { self.task.bind(py).call_method0(question)?.is_truthy() };
        Ok(!asks(intern!(py, "done"))? && !asks(intern!(py, "cancelling"))?)
    }

    pub fn task_and_rest(&self) -> (&Py<PyAny>, &Py<PyAny>) {
        (&self.task, &self.rest)
    }

    /// Takes the first step of a coroutine, with this task as the current one.
    pub fn step<'py>(&self, coroutine: &Bound<'py, PyAny>) -> PyResult<Step<'py>> {
        let py = coroutine.py();
        let asyncio = Asyncio::get(py)?;
        let before = asyncio.current.call1(py, (&self.event_loop,))?;
        if !before.is_none(py) {
            asyncio.leave.call1(py, (&self.event_loop, &before))?;
        }
        asyncio.enter.call1(py, (&self.event_loop, &self.task))?;
        let step = send_nothing(coroutine);
        asyncio.leave.call1(py, (&self.event_loop, &self.task))?;
        if !before.is_none(py) {
            asyncio.enter.call1(py, (&self.event_loop, &before))?;
        }
        step
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.task)?;
        visit.call(&self.rest)
    }
}

/// `coroutine.send(None)`, without an exception for its end.
fn send_nothing<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Step<'py>> {
    let py = coroutine.py();
    let none = py.None();
    let mut result = std::ptr::null_mut();
    // SAFETY: the lock is held, and the objects live across the call. It sets `result` to a new
    // reference, unless it fails with an exception set.
    unsafe {
        let outcome = ffi::PyIter_Send(coroutine.as_ptr(), none.as_ptr(), &raw mut result);
        match outcome {
            ffi::PySendResult::PYGEN_RETURN => Ok(Step::Done(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_NEXT => Ok(Step::Waits(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

/// What asyncio has for those who run tasks.
struct Asyncio {
    current: Py<PyAny>,
    enter: Py<PyAny>,
    leave: Py<PyAny>,
}

impl Asyncio {
    fn get(py: Python<'_>) -> PyResult<&Self> {
        static ASYNCIO: PyOnceLock<Asyncio> = PyOnceLock::new();
        ASYNCIO.get_or_try_init(py, || {
            let tasks = py.import("asyncio.tasks")?;
            Ok(Self {
                current: tasks.getattr("current_task")?.unbind(),
                enter: tasks.getattr("_enter_task")?.unbind(),
                leave: tasks.getattr("_leave_task")?.unbind(),
            })
        })
    }
}

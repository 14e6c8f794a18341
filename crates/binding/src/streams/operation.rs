//! What `await stream.receive()` awaits: a coroutine in all but name. One of the files with `unsafe`.
//!
//! If what it is about can be done at once, its first step is its last, and no task is told. So
//! little happens then that the way through PyO3 would be most of it: the slots that `await`
//! uses are C functions. Operations that are over are used again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pyo3::exceptions::{
    PyBaseException, PyRuntimeError, PyRuntimeWarning, PyStopAsyncIteration, PyStopIteration,
};
use pyo3::ffi::{self, PyObject, PySendResult};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{Borrowed, PyTraverseError, PyVisit};

use super::backlog::Wish;
use super::ends::raised;
use super::waiter::Waiter;
use super::{Side, Stream};
use crate::cell::Guarded;

/// What the peer's FIN is to a reader.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    Raises,
    /// The end of an `async for`.
    Stops,
    /// No bytes; nor is it any other end that we closed it ourselves.
    Empty,
}

impl AtEnd {
    pub fn conclude(self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self {
            Self::Raises => Err(raised(py, "EndOfStream", ())),
            Self::Stops => Err(PyStopAsyncIteration::new_err(())),
            Self::Empty => Ok(Some(PyBytes::new(py, b"").into_any().unbind())),
        }
    }
}

/// What is to be done.
pub enum Act {
    Read(Wish, AtEnd),
    /// Receive into this memory, which has room for so much.
    Fill(Py<PyAny>, usize),
    Send(Py<PyAny>),
    SendAll(Vec<Py<PyAny>>),
    /// Wait until little enough of what was written has to wait.
    Drain,
}

impl Act {
    fn side(&self) -> Side {
        match self {
            Self::Read(..) | Self::Fill(..) => Side::Reading,
            Self::Send(_) | Self::SendAll(_) | Self::Drain => Side::Writing,
        }
    }
}

/// How far it has come.
#[derive(Default)]
enum Phase {
    /// Not begun: this is what is to be done.
    New(Py<Stream>, Act),
    Reading(Py<Stream>, AtEnd),
    /// With what is sent.
    Writing(Py<Stream>, Py<PyAny>),
    Draining(Py<Stream>),
    #[default]
    Over,
}

#[pyclass(frozen, module = "mantou._core", name = "_Operation")]
pub struct Operation(Guarded<Phase>);

/// What a step came to.
enum Step<'py> {
    Done(Py<PyAny>),
    Waits(Bound<'py, Waiter>),
}

impl Operation {
    pub fn of<'py>(stream: &Bound<'py, Stream>, act: Act) -> PyResult<Bound<'py, Self>> {
        let py = stream.py();
        let spare = match act.side() {
            Side::Reading => &stream.get().spare_read,
            Side::Writing => &stream.get().spare_write,
        };
        let phase = Phase::New(stream.clone().unbind(), act);
        // Nobody else can still ask for anything of one that only we know.
        let known = spare.with(py, |spare| {
            // SAFETY: it is a live object, and the lock is held.
            let is_free = |it: &&Py<Self>| unsafe { ffi::Py_REFCNT(it.as_ptr()) } == 1;
            let free = spare.as_ref().filter(is_free);
            free.map(|spare| spare.clone_ref(py))
        });
        if let Some(known) = known {
            let before = known.get().0.replace(py, phase);
            if let Phase::New(_, act) = &before {
                never_awaited(py, act.side());
            }
            return Ok(known.into_bound(py));
        }
        let made = Bound::new(py, Self(Guarded::new(phase)))?;
        drop(spare.replace(py, Some(made.clone().unbind())));
        Ok(made)
    }

    fn step<'py>(&self, py: Python<'py>) -> PyResult<Step<'py>> {
        match self.0.replace(py, Phase::Over) {
            Phase::New(stream, Act::Read(wish, at_end)) => {
                let result = stream.get().read(py, wish, at_end)?;
                self.conclude_read(py, stream, at_end, result)
            }
            Phase::New(stream, Act::Fill(memory, size)) => {
                let result = stream.get().read_into(py, memory, size)?;
                self.conclude_read(py, stream, AtEnd::Raises, result)
            }
            Phase::Reading(stream, at_end) => {
                let result = stream.get().read_on(py, at_end)?;
                self.conclude_read(py, stream, at_end, result)
            }
            Phase::New(stream, Act::Send(data)) => {
                let done = stream.get().begin_send(data.bind(py))?;
                self.conclude_write(py, stream, data, done)
            }
            Phase::New(stream, Act::SendAll(buffers)) => {
                let done = stream.get().begin_send_all(py, &buffers)?;
                self.conclude_write(py, stream, py.None(), done)
            }
            Phase::New(stream, Act::Drain) => {
                let done = stream.get().begin_drain(py)?;
                self.conclude_drain(py, stream, done)
            }
            Phase::Draining(stream) => {
                let done = stream.get().drain_on(py)?;
                self.conclude_drain(py, stream, done)
            }
            Phase::Writing(stream, data) => {
                let done = stream.get().send_on(data.bind(py))?;
                self.conclude_write(py, stream, data, done)
            }
            Phase::Over => Err(PyRuntimeError::new_err(
                "cannot reuse already awaited operation of a stream",
            )),
        }
    }

    #[inline]
    fn conclude_read<'py>(
        &self,
        py: Python<'py>,
        stream: Py<Stream>,
        at_end: AtEnd,
        result: Option<Py<PyAny>>,
    ) -> PyResult<Step<'py>> {
        if let Some(result) = result {
            return Ok(Step::Done(result));
        }
        let waiter = stream.get().reading_waiter(py)?;
        self.0.replace(py, Phase::Reading(stream, at_end));
        Ok(Step::Waits(waiter))
    }

    #[inline]
    fn conclude_write<'py>(
        &self,
        py: Python<'py>,
        stream: Py<Stream>,
        data: Py<PyAny>,
        done: bool,
    ) -> PyResult<Step<'py>> {
        if done {
            return Ok(Step::Done(py.None()));
        }
        let waiter = stream.get().writing_waiter(py)?;
        self.0.replace(py, Phase::Writing(stream, data));
        Ok(Step::Waits(waiter))
    }

    fn conclude_drain<'py>(
        &self,
        py: Python<'py>,
        stream: Py<Stream>,
        done: bool,
    ) -> PyResult<Step<'py>> {
        if done {
            return Ok(Step::Done(py.None()));
        }
        let waiter = stream.get().writing_waiter(py)?;
        self.0.replace(py, Phase::Draining(stream));
        Ok(Step::Waits(waiter))
    }

    /// Nobody awaits it any more; how many bytes of what it sends were accepted.
    fn give_up(&self, py: Python<'_>) -> Option<usize> {
        match self.0.replace(py, Phase::Over) {
            Phase::Reading(stream, _) => {
                stream.get().give_up_reading(py);
                None
            }
            Phase::Writing(stream, _) => Some(stream.get().stop_sending(py)),
            Phase::Draining(stream) => {
                stream.get().stop_sending(py);
                None
            }
            Phase::New(_, Act::Send(_) | Act::SendAll(_)) => Some(0),
            Phase::New(..) | Phase::Over => None,
        }
    }
}

#[pymethods]
impl Operation {
    /// For the texts of tasks: asyncio names coroutines by it.
    #[getter]
    fn __name__(&self, py: Python<'_>) -> &'static str {
        self.0.with(py, |phase| match phase {
            Phase::New(_, Act::Read(..) | Act::Fill(..)) | Phase::Reading(..) => "receive",
            Phase::New(_, Act::Send(_) | Act::SendAll(_)) | Phase::Writing(..) => "send",
            Phase::New(_, Act::Drain) | Phase::Draining(_) => "drain",
            Phase::Over => "operation",
        })
    }

    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> String {
        format!("Stream.{}", self.__name__(py))
    }

    fn __await__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.step(py)? {
            Step::Done(result) => Err(PyStopIteration::new_err((result,))),
            Step::Waits(waiter) => Ok(waiter.into_any()),
        }
    }

    fn send<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.__next__(value.py())
    }

    /// An exception comes in the place of what was awaited: mostly, the task was cancelled.
    #[pyo3(signature = (error, value=None, _traceback=None))]
    fn throw(
        &self,
        error: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        _traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = error.py();
        let error = match value.filter(|it| !it.is_none()) {
            None => PyErr::from_value(error),
            Some(value) if value.is_instance_of::<PyBaseException>() => PyErr::from_value(value),
            Some(value) => PyErr::from_type(error.cast_into()?, (value.unbind(),)),
        };
        if let Some(sent) = self.give_up(py) {
            error.value(py).setattr("sent", sent)?;
        }
        Err(error)
    }

    fn close(&self, py: Python<'_>) {
        self.give_up(py);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(&visit, |phase, visit| match phase {
            Phase::New(stream, act) => {
                visit.call(stream)?;
                match act {
                    Act::Fill(data, _) | Act::Send(data) => visit.call(data),
                    Act::SendAll(all) => all.iter().try_for_each(|data| visit.call(data)),
                    Act::Read(..) | Act::Drain => Ok(()),
                }
            }
            Phase::Reading(stream, _) | Phase::Draining(stream) => visit.call(stream),
            Phase::Writing(stream, data) => {
                visit.call(stream)?;
                visit.call(data)
            }
            Phase::Over => Ok(()),
        })
    }

    fn __clear__(&self) {
        drop(self.0.take());
    }
}

#[cold]
fn never_awaited(py: Python<'_>, side: Side) {
    let text = match side {
        Side::Reading => c"what receives from a stream was never awaited",
        Side::Writing => c"what sends on a stream was never awaited",
    };
    let category = py.get_type::<PyRuntimeWarning>();
    if let Err(error) = PyErr::warn(py, &category, text, 1) {
        error.write_unraisable(py, None);
    }
}

/// Has `await` come here without a detour.
pub fn install(py: Python<'_>) {
    let class = py.get_type::<Operation>().as_type_ptr();
    // SAFETY: the lock is held, and nobody uses the class yet. They are there: PyO3 filled in
    // `__next__`, and `__await__`, for which there is a table of such slots.
    unsafe {
        (*class).tp_iternext = Some(iternext);
        if let Some(slots) = (*class).tp_as_async.as_mut() {
            slots.am_await = Some(itself);
            slots.am_send = Some(send);
        }
    }
}

/// # Safety
/// Called by Python, with an object of the class.
unsafe extern "C" fn itself(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: CPython calls with a live object.
    unsafe { ffi::Py_NewRef(this) }
}

/// # Safety
/// Called by Python, with an object of the class.
unsafe extern "C" fn iternext(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: CPython calls the slot with an object of the class.
    let (py, step) = unsafe { enter(this) };
    match step {
        Ok(Step::Waits(waiter)) => waiter.into_ptr(),
        Ok(Step::Done(result)) => {
            // Null without an exception stands for None.
            if !result.is_none(py) {
                // SAFETY: the lock is held; it takes references of its own.
                unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, result.as_ptr()) };
            }
            ptr::null_mut()
        }
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// # Safety
/// Called by Python, with an object of the class and a place for the result.
unsafe extern "C" fn send(
    this: *mut PyObject,
    _value: *mut PyObject,
    result: *mut *mut PyObject,
) -> PySendResult {
    // SAFETY: CPython calls the slot with an object of the class.
    let (py, step) = unsafe { enter(this) };
    let (object, verdict) = match step {
        Ok(Step::Done(object)) => (object.into_ptr(), PySendResult::PYGEN_RETURN),
        Ok(Step::Waits(waiter)) => (waiter.into_ptr(), PySendResult::PYGEN_NEXT),
        Err(error) => {
            error.restore(py);
            (ptr::null_mut(), PySendResult::PYGEN_ERROR)
        }
    };
    // SAFETY: it points to where the caller wants its reference.
    unsafe { *result = object };
    verdict
}

/// # Safety
/// Called by Python, with an object of the class.
#[inline]
unsafe fn enter<'py>(this: *mut PyObject) -> (Python<'py>, PyResult<Step<'py>>) {
    // SAFETY: CPython calls, so the lock is held.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the caller's. The reference of its own keeps the object while it is at work.
    let this = unsafe {
        Borrowed::from_ptr(py, this)
            .to_owned()
            .cast_into_unchecked::<Operation>()
    };
    // No panic may leave a C function.
    let step = catch_unwind(AssertUnwindSafe(|| this.get().step(py)));
    let failed = || Err(PyRuntimeError::new_err("the stream failed"));
    (py, step.unwrap_or_else(|_| failed()))
}

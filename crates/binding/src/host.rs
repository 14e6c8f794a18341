//! What the engine asks of the event loop it runs in: tasks, futures, a place for errors.

use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::cell::Guarded;
use crate::errors;
use crate::first_step::{Reserve, Step};

/// The Python object that stands for the event loop; none before the engine is attached, and none
/// once the loop is closed.
#[derive(Default)]
pub struct Host {
    object: Guarded<Option<Py<PyAny>>>,
    /// There was one.
    is_gone: Guarded<bool>,
    /// For the next async handler.
    reserve: Guarded<Option<Reserve>>,
}

impl Host {
    pub fn attach(&self, py: Python<'_>, object: Option<Py<PyAny>>) {
        self.is_gone.replace(py, object.is_none());
        self.forget_reserve(py);
        drop(self.object.replace(py, object));
    }

    /// No loop has run the engine yet.
    pub fn is_awaited(&self, py: Python<'_>) -> bool {
        self.object.with(py, |object| object.is_none()) && !self.is_gone.get(py)
    }

    pub fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.object.cloned(py) {
            Some(host) => {
                let event_loop = host.bind(py).getattr(intern!(py, "_loop"))?.call0()?;
                if event_loop.is_none() {
                    return Err(PyRuntimeError::new_err(
                        "the event loop of this socket is gone",
                    ));
                }
                event_loop.call_method0(intern!(py, "create_future"))
            }
            None if self.is_gone.get(py) => Err(PyRuntimeError::new_err(
                "the event loop of this socket is closed",
            )),
            None => Err(PyRuntimeError::new_err(
                "no event loop runs this socket yet",
            )),
        }
    }

    /// Runs the coroutine of an async handler up to its first wait. Its result if it never waits;
    /// else a task will tell the engine when it has ended.
    pub fn begin<'py>(
        &self,
        socket: &Bound<'py, PyAny>,
        stage: u8,
        cause: Option<&Bound<'py, PyAny>>,
        coroutine: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = coroutine.py();
        let Some(host) = self.object.cloned(py) else {
            return coroutine.call_method0(intern!(py, "close")).map(Some);
        };
        let host = host.bind(py);
        // Taken out meanwhile: the step may begin another handler, of a socket that it connects.
        let reserve = match self.reserve.replace(py, None) {
            Some(reserve) if reserve.is_fresh(py)? => reserve,
            _ => {
                let made = host.call_method1(intern!(py, "reserve"), (coroutine,))?;
                match made.cast::<PyTuple>() {
                    Ok(made) => Reserve::of(made)?,
                    Err(_) => return Ok(Some(made)),
                }
            }
        };
        let step = reserve.step(coroutine);
        if let Ok(Step::Waits(awaited)) = &step {
            let (task, rest) = reserve.task_and_rest();
            let arguments = (
                socket, stage, cause, coroutine, context, awaited, task, rest,
            );
            host.call_method1(intern!(py, "go_on"), arguments)?;
            return Ok(None);
        }
        drop(self.reserve.replace(py, Some(reserve)));
        match step? {
            Step::Done(result) => Ok(Some(result)),
            Step::Waits(_) => Ok(None),
        }
    }

    /// Has the next async handler ask for a task.
    pub fn forget_reserve(&self, py: Python<'_>) {
        drop(self.reserve.replace(py, None));
    }

    /// Cancels the coroutines of a socket.
    pub fn cancel(&self, socket: &Bound<'_, PyAny>) {
        self.tell(socket.py(), "cancel", (socket,));
    }

    /// In debug mode: a handler was called, and took so long.
    pub fn called(
        &self,
        handler: &Bound<'_, PyAny>,
        name: &str,
        socket: &Bound<'_, PyAny>,
        took: Duration,
    ) {
        self.tell(
            socket.py(),
            "called",
            (handler, name, socket, took.as_secs_f64()),
        );
    }

    /// Hands an exception that nobody else wants to the loop's exception handler.
    pub fn report(
        &self,
        py: Python<'_>,
        message: &str,
        error: &PyErr,
        about: Option<&Bound<'_, PyAny>>,
    ) {
        self.tell(py, "report", (message, errors::value_of(py, error), about));
    }

    /// A listener ran out of descriptors.
    pub fn starved(&self, py: Python<'_>, error: &PyErr) {
        self.tell(py, "starved", (errors::value_of(py, error),));
    }

    /// A limit of a listener has its effect for the first time.
    pub fn at_limit(&self, listener: &Bound<'_, PyAny>, limit: &str) {
        self.tell(listener.py(), "at_limit", (listener, limit));
    }

    pub fn turned_away(&self, socket: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) {
        self.tell(socket.py(), "turned_away", (socket, error));
    }

    pub fn handshake_failed(&self, socket: &Bound<'_, PyAny>, error: Option<&Bound<'_, PyAny>>) {
        self.tell(socket.py(), "handshake_failed", (socket, error));
    }

    pub fn stop(&self, py: Python<'_>) {
        self.tell(py, "stop", ());
    }

    fn tell<'py, A>(&self, py: Python<'py>, method: &str, arguments: A)
    where
        A: pyo3::call::PyCallArgs<'py>,
    {
        if let Some(host) = self.object.cloned(py)
            && let Err(error) = host.bind(py).call_method1(method, arguments)
        {
            error.write_unraisable(py, Some(host.bind(py)));
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.object
            .traverse(visit, |host, visit| visit.call(host))?;
        self.reserve
            .traverse(visit, |reserve, visit| match reserve {
                Some(reserve) => reserve.traverse(visit),
                None => Ok(()),
            })
    }

    pub fn clear(&self) {
        drop(self.object.take());
        drop(self.reserve.take());
    }
}

/// Adds a waiter, and before their list grows drops those who have given up waiting meanwhile.
pub fn enlist<W>(
    py: Python<'_>,
    waiters: &Guarded<Vec<W>>,
    waiter: W,
    future: impl Fn(&W) -> &Py<PyAny>,
) {
    if waiters.with(py, |waiters| waiters.len() == waiters.capacity()) {
        let mut all = waiters.replace(py, Vec::new());
        let is_done = |waiter: &W| {
            let done = future(waiter).call_method0(py, intern!(py, "done"));
            done.is_ok_and(|done| done.is_truthy(py).unwrap_or(false))
        };
        all.retain(|waiter| !is_done(waiter));
        waiters.with(py, |waiters| {
            all.append(waiters);
            *waiters = all;
        });
    }
    waiters.with(py, |waiters| waiters.push(waiter));
}

/// Settles a future that nobody has settled or cancelled yet.
pub fn resolve(future: &Bound<'_, PyAny>, error: Option<&Bound<'_, PyAny>>) {
    let py = future.py();
    match error {
        Some(error) => settle(future, intern!(py, "set_exception"), error),
        None => resolve_with(future, py.None().bind(py)),
    }
}

pub fn resolve_with(future: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) {
    settle(future, intern!(future.py(), "set_result"), result);
}

fn settle(future: &Bound<'_, PyAny>, how: &Bound<'_, PyString>, with: &Bound<'_, PyAny>) {
    let py = future.py();
    let settle = || -> PyResult<()> {
        if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
            future.call_method1(how, (with,))?;
        }
        Ok(())
    };
    if let Err(error) = settle() {
        // The loop is closed: nobody waits any more.
        error.write_unraisable(py, Some(future));
    }
}

//! What a task waits for while its stream has nothing for it: a future, as far as asyncio's tasks ask.
//!
//! A real one would be made for each wait, and would wake its task a turn later, by a callback. This
//! one belongs to the stream and is used again and again, and where the loop runs nobody else its
//! task goes on within the event that it waited for.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::cell::Guarded;
use crate::context::Context;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Done,
    Cancelled,
    /// Done, and whoever waited knows: it can be waited for anew.
    Delivered,
}

/// A callback, and the context that it is called in.
type Call = (Py<PyAny>, Context);

#[pyclass(frozen, module = "mantou._core", name = "_Waiter")]
pub struct Waiter {
    event_loop: Py<PyAny>,
    state: Guarded<State>,
    calls: Guarded<Vec<Call>>,
    /// What it was cancelled with.
    message: Guarded<Option<Py<PyAny>>>,
}

impl Waiter {
    pub fn new(event_loop: Py<PyAny>) -> Self {
        Self {
            event_loop,
            state: Guarded::new(State::Waiting),
            calls: Guarded::default(),
            message: Guarded::default(),
        }
    }

    /// Has it waited for once more. False if somebody still knows it for the last time's sake.
    pub fn renew(&self, py: Python<'_>) -> bool {
        let fresh = self.state.get(py) == State::Delivered;
        if fresh {
            self.state.replace(py, State::Waiting);
        }
        fresh
    }

    pub fn is_waiting(&self, py: Python<'_>) -> bool {
        self.state.get(py) == State::Waiting
    }

    /// Whether there is one task, and it waits.
    pub fn has_its_task(&self, py: Python<'_>) -> bool {
        self.is_waiting(py) && self.calls.with(py, |calls| calls.len() == 1)
    }

    /// Has its task go on at once. Only where no other task runs.
    ///
    /// What it raises is what leaves the loop: tasks keep all other exceptions.
    pub fn wake_now(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let waiter = this.get();
        if !waiter.has_its_task(py) {
            return Self::wake(this);
        }
        let Some((callback, context)) = waiter.calls.with(py, Vec::pop) else {
            return Ok(());
        };
        if let Ok(_entered) = context.enter(py) {
            waiter.state.replace(py, State::Delivered);
            callback.call1(py, (this,)).map(drop)
        } else {
            // Somebody runs in this context.
            waiter.state.replace(py, State::Done);
            waiter.call_soon(this, &callback, &context)
        }
    }

    /// Has its task go on in the loop's next turn.
    pub fn wake(this: &Bound<'_, Self>) -> PyResult<()> {
        if this.get().is_waiting(this.py()) {
            this.get().state.replace(this.py(), State::Done);
        }
        Self::settle(this)
    }

    fn settle(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        for (callback, context) in this.get().calls.replace(py, Vec::new()) {
            this.get().call_soon(this, &callback, &context)?;
        }
        Ok(())
    }

    fn call_soon(
        &self,
        this: &Bound<'_, Self>,
        callback: &Py<PyAny>,
        context: &Context,
    ) -> PyResult<()> {
        let py = this.py();
        let options = PyDict::new(py);
        options.set_item(intern!(py, "context"), context.object(py))?;
        let call_soon = intern!(py, "call_soon");
        let event_loop = self.event_loop.bind(py);
        event_loop.call_method(call_soon, (callback, this), Some(&options))?;
        Ok(())
    }
}

#[pymethods]
impl Waiter {
    /// By this tasks know that it can be waited for.
    #[getter]
    #[allow(clippy::unused_self)]
    fn _asyncio_future_blocking(&self) -> bool {
        true
    }

    #[setter(_asyncio_future_blocking)]
    #[allow(clippy::unused_self)]
    fn set_asyncio_future_blocking(&self, _blocking: bool) {}

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    #[pyo3(signature = (callback, *, context=None))]
    fn add_done_callback(
        this: &Bound<'_, Self>,
        callback: Py<PyAny>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = this.py();
        let context = match context {
            Some(context) => Context::of(context),
            None => Context::current(py)?,
        };
        if !this.get().is_waiting(py) {
            return this.get().call_soon(this, &callback, &context);
        }
        this.get()
            .calls
            .with(py, |calls| calls.push((callback, context)));
        Ok(())
    }

    fn remove_done_callback(&self, callback: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = callback.py();
        let (mut kept, mut removed) = (Vec::new(), 0);
        for call in self.calls.replace(py, Vec::new()) {
            if call.0.bind(py).eq(callback)? {
                removed += 1;
            } else {
                kept.push(call);
            }
        }
        self.calls.with(py, |calls| {
            kept.append(calls);
            *calls = kept;
        });
        Ok(removed)
    }

    #[pyo3(signature = (msg=None))]
    fn cancel(this: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let py = this.py();
        if !this.get().is_waiting(py) {
            return Ok(false);
        }
        this.get().state.replace(py, State::Cancelled);
        drop(this.get().message.replace(py, msg));
        Self::settle(this)?;
        Ok(true)
    }

    fn cancelled(&self, py: Python<'_>) -> bool {
        self.state.get(py) == State::Cancelled
    }

    fn done(&self, py: Python<'_>) -> bool {
        !self.is_waiting(py)
    }

    fn result(&self, py: Python<'_>) -> PyResult<()> {
        match self.state.get(py) {
            State::Done | State::Delivered => Ok(()),
            State::Cancelled => Err(cancelled(py, self.message.cloned(py))),
            State::Waiting => Err(PyRuntimeError::new_err("Result is not ready.")),
        }
    }

    fn exception(&self, py: Python<'_>) -> PyResult<()> {
        self.result(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.calls.traverse(&visit, |calls, visit| {
            calls.iter().try_for_each(|(callback, context)| {
                visit.call(callback)?;
                context.traverse(visit)
            })
        })
    }

    fn __clear__(&self) {
        drop(self.calls.take());
    }
}

fn cancelled(py: Python<'_>, message: Option<Py<PyAny>>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.import(py, "asyncio", "CancelledError") {
        Ok(class) => match message {
            Some(message) => PyErr::from_type(class.clone(), (message,)),
            None => PyErr::from_type(class.clone(), ()),
        },
        Err(error) => error,
    }
}

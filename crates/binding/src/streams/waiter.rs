//! What a task waits for while its stream has nothing for it: a future, as far as asyncio's tasks ask.
//! One of the files with `unsafe`.
//!
//! A real one would be made for each wait, and would wake its task a turn later, by a callback. This
//! one belongs to the stream and is used again and again, and where the loop runs nobody else its
//! task goes on within the event that it waited for.
//!
//! Of a real one tasks look at the inside. This one they ask, five times for each wait, so what they
//! ask are C functions on the class: the way through PyO3 would be most of each.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi::{self, PyObject};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::cell::Guarded;
use crate::context::Context;
use crate::methods::{self, Arguments, Method, Taking, TakingNothing};

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

    fn outcome(&self, py: Python<'_>) -> PyResult<()> {
        match self.state.get(py) {
            State::Done | State::Delivered => Ok(()),
            State::Cancelled => Err(cancelled(py, self.message.cloned(py))),
            State::Waiting => Err(PyRuntimeError::new_err("Result is not ready.")),
        }
    }

    fn add(this: &Bound<'_, Self>, callback: Py<PyAny>, context: Context) -> PyResult<()> {
        let py = this.py();
        if !this.get().is_waiting(py) {
            return this.get().call_soon(this, &callback, &context);
        }
        let add = |calls: &mut Vec<Call>| calls.push((callback, context));
        this.get().calls.with(py, add);
        Ok(())
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

    fn exception(&self, py: Python<'_>) -> PyResult<()> {
        self.outcome(py)
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

/// Puts on the class what tasks ask for each wait.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Waiter>();
    METHODS
        .iter()
        .try_for_each(|method| methods::add(&class, method))?;
    // By this tasks know that it can be waited for. The class refers to it as long as it lives.
    let definition = Box::leak(Box::new(ffi::PyGetSetDef {
        name: c"_asyncio_future_blocking".as_ptr(),
        get: Some(is_blocking),
        set: Some(set_blocking),
        doc: ptr::null(),
        closure: ptr::null_mut(),
    }));
    // SAFETY: class and definition live on. It returns a new reference, or null with an exception.
    let attribute = unsafe {
        let attribute = ffi::PyDescr_NewGetSet(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(py, attribute)?
    };
    class.setattr(intern!(py, "_asyncio_future_blocking"), attribute)
}

const METHODS: [Method<Waiter>; 3] = [
    Method::taking_nothing::<GetLoop>(c"get_loop", DOC),
    Method::taking_nothing::<Outcome>(c"result", DOC),
    Method::taking::<AddDoneCallback>(c"add_done_callback", DOC),
];

const DOC: &CStr = c"As asyncio.Future's.";

struct GetLoop;

impl TakingNothing for GetLoop {
    type Class = Waiter;

    fn call<'py>(waiter: &Bound<'py, Waiter>) -> PyResult<Bound<'py, PyAny>> {
        Ok(waiter.get().event_loop.bind(waiter.py()).clone())
    }
}

struct Outcome;

impl TakingNothing for Outcome {
    type Class = Waiter;

    fn call<'py>(waiter: &Bound<'py, Waiter>) -> PyResult<Bound<'py, PyAny>> {
        let py = waiter.py();
        waiter.get().outcome(py)?;
        Ok(py.None().into_bound(py))
    }
}

struct AddDoneCallback;

impl Taking for AddDoneCallback {
    type Class = Waiter;

    fn call<'py>(
        waiter: &Bound<'py, Waiter>,
        given: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = waiter.py();
        let (callback, context) = match (given.positional, given.values) {
            ([callback], []) => (callback, Context::current(py)?),
            // The only name that futures know.
            ([callback], [context]) => (callback, Context::of((*context).to_owned())),
            _ => {
                let text = "add_done_callback() takes a callback, and a context by name";
                return Err(PyTypeError::new_err(text));
            }
        };
        Waiter::add(waiter, (*callback).to_owned().unbind(), context)?;
        Ok(py.None().into_bound(py))
    }
}

/// # Safety
/// Called by Python, for an object of the class. What it is given is not looked at.
unsafe extern "C" fn is_blocking(_this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls, so the lock is held.
    unsafe { ffi::Py_NewRef(ffi::Py_True()) }
}

/// # Safety
/// Called by Python, for an object of the class. What it is given is not looked at.
unsafe extern "C" fn set_blocking(
    _this: *mut PyObject,
    _value: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // It is waited for by one task or none.
    0
}

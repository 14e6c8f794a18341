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
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi::{self, Py_ssize_t, PyObject};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};
use pyo3::{Borrowed, PyTraverseError, PyVisit};

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
    add_method(
        py,
        c"get_loop",
        ffi::METH_NOARGS,
        ffi::PyMethodDefPointer {
            PyCFunction: get_loop,
        },
    )?;
    add_method(
        py,
        c"result",
        ffi::METH_NOARGS,
        ffi::PyMethodDefPointer {
            PyCFunction: result,
        },
    )?;
    let flags = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    add_method(
        py,
        c"add_done_callback",
        flags,
        ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: add_done_callback,
        },
    )?;
    let class = py.get_type::<Waiter>();
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

fn add_method(
    py: Python<'_>,
    name: &'static CStr,
    flags: c_int,
    function: ffi::PyMethodDefPointer,
) -> PyResult<()> {
    let class = py.get_type::<Waiter>();
    // The class refers to it for as long as the process lives.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: function,
        ml_flags: flags,
        ml_doc: ptr::null(),
    }));
    // SAFETY: class and definition live on. It returns a new reference, or null with an exception.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(py, method)?
    };
    class.setattr(PyString::new(py, &name.to_string_lossy()), method)
}

unsafe extern "C" fn is_blocking(_this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls, so the lock is held.
    unsafe { ffi::Py_NewRef(ffi::Py_True()) }
}

unsafe extern "C" fn set_blocking(
    _this: *mut PyObject,
    _value: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // It is waited for by one task or none.
    0
}

unsafe extern "C" fn get_loop(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: CPython calls a method of the class.
    unsafe { enter(this, |it| Ok(it.get().event_loop.clone_ref(it.py()))) }
}

unsafe extern "C" fn result(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: CPython calls a method of the class.
    unsafe {
        enter(this, |it| {
            it.get().outcome(it.py()).map(|()| it.py().None())
        })
    }
}

unsafe extern "C" fn add_done_callback(
    this: *mut PyObject,
    arguments: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls a method of the class, with `count` arguments and as many more as there
    // are names. All of them live as long as the call.
    unsafe {
        enter(this, |it| {
            let py = it.py();
            let by_name = if names.is_null() {
                0
            } else {
                ffi::PyTuple_Size(names)
            };
            if count != 1 || by_name > 1 {
                let text = "add_done_callback() takes a callback, and a context by name";
                return Err(PyTypeError::new_err(text));
            }
            let callback = Borrowed::from_ptr(py, *arguments).to_owned();
            // The only name that futures know.
            let context = if by_name == 1 {
                Context::of(Borrowed::from_ptr(py, *arguments.add(1)).to_owned())
            } else {
                Context::current(py)?
            };
            Waiter::add(it, callback.unbind(), context).map(|()| py.None())
        })
    }
}

/// Runs the body of a method.
///
/// # Safety
/// CPython calls, with an object of the class.
#[inline]
unsafe fn enter(
    this: *mut PyObject,
    body: impl FnOnce(&Bound<'_, Waiter>) -> PyResult<Py<PyAny>>,
) -> *mut PyObject {
    // SAFETY: CPython calls, so the lock is held.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the caller's. The reference of its own keeps the object while it is at work.
    let this = unsafe {
        Borrowed::from_ptr(py, this)
            .to_owned()
            .cast_into_unchecked::<Waiter>()
    };
    // No panic may leave a C function.
    let result = catch_unwind(AssertUnwindSafe(|| body(&this)));
    let failed = |_| Err(PyRuntimeError::new_err("the waiter failed"));
    match result.unwrap_or_else(failed) {
        Ok(result) => result.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

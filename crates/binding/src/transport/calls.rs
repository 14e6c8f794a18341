//! What is called for each message, without wrappers. One of the files with `unsafe`.

use pyo3::ffi::{Py_ssize_t, PyObject};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple, PyType};

use super::Transport;
use crate::methods::{self, Arguments, Function, Method};

const METHODS: [Method; 3] = [
    Method {
        name: c"write",
        doc: c"As the base class's.",
        function: Function::Taking(write),
    },
    Method {
        name: c"writelines",
        doc: c"As the base class's.",
        function: Function::Taking(writelines),
    },
    Method {
        name: c"is_closing",
        doc: c"As the base class's.",
        function: Function::TakingNothing(is_closing),
    },
];

#[pymethods]
impl Transport {
    /// Has the class itself own the methods that are called most. The interpreter calls a C function
    /// at once only where the class that has it is the object's very own: an inherited one costs a
    /// third more.
    #[classmethod]
    fn _own_calls(class: &Bound<'_, PyType>) -> PyResult<()> {
        methods::add_missing(class, &METHODS)
    }
}

unsafe extern "C" fn write(
    this: *mut PyObject,
    arguments: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython as it promises for such functions.
    unsafe {
        methods::enter::<Transport>(this, |transport| {
            let py = transport.py();
            let given = Arguments::new(py, arguments, count, names);
            let ([data], None) = (given.positional, given.names) else {
                return pass_on(transport, intern!(py, "write"), given);
            };
            Transport::write(transport, data)?;
            Ok(py.None().into_bound(py))
        })
    }
}

unsafe extern "C" fn writelines(
    this: *mut PyObject,
    arguments: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython as it promises for such functions.
    unsafe {
        methods::enter::<Transport>(this, |transport| {
            let py = transport.py();
            let given = Arguments::new(py, arguments, count, names);
            let ([data], None) = (given.positional, given.names) else {
                return pass_on(transport, intern!(py, "writelines"), given);
            };
            Transport::writelines(transport, data)?;
            Ok(py.None().into_bound(py))
        })
    }
}

unsafe extern "C" fn is_closing(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython as it promises for such functions.
    unsafe {
        methods::enter::<Transport>(this, |transport| {
            let py = transport.py();
            let closing = transport.get().is_closing(py);
            Ok(PyBool::new(py, closing).to_owned().into_any())
        })
    }
}

/// Arguments by name, or too many: the base class knows which there are.
#[cold]
fn pass_on<'py>(
    transport: &Bound<'py, Transport>,
    method: &Bound<'py, PyString>,
    given: Arguments<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = transport.py();
    let mut positional = vec![transport.clone().into_any()];
    positional.extend(given.positional.iter().map(|it| (**it).clone()));
    let named = PyDict::new(py);
    for (name, value) in given
        .names
        .iter()
        .flat_map(|names| names.iter())
        .zip(given.values)
    {
        named.set_item(name, value)?;
    }
    let base = py.get_type::<Transport>().getattr(method)?;
    base.call(PyTuple::new(py, positional)?, Some(&named))
}

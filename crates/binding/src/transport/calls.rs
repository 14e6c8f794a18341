//! What is called for each message, without wrappers.

use std::ffi::CStr;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple, PyType};

use super::Transport;
use crate::methods::{self, Arguments, Method, Taking, TakingNothing};

const METHODS: [Method<Transport>; 3] = [
    Method::taking::<Write>(c"write", DOC),
    Method::taking::<WriteLines>(c"writelines", DOC),
    Method::taking_nothing::<IsClosing>(c"is_closing", DOC),
];

const DOC: &CStr = c"As the base class's.";

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

struct Write;

impl Taking for Write {
    type Class = Transport;

    fn call<'py>(
        transport: &Bound<'py, Transport>,
        given: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = transport.py();
        let ([data], None) = (given.positional, given.names) else {
            return pass_on(transport, intern!(py, "write"), given);
        };
        Transport::write(transport, data)?;
        Ok(py.None().into_bound(py))
    }
}

struct WriteLines;

impl Taking for WriteLines {
    type Class = Transport;

    fn call<'py>(
        transport: &Bound<'py, Transport>,
        given: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = transport.py();
        let ([data], None) = (given.positional, given.names) else {
            return pass_on(transport, intern!(py, "writelines"), given);
        };
        Transport::writelines(transport, data)?;
        Ok(py.None().into_bound(py))
    }
}

struct IsClosing;

impl TakingNothing for IsClosing {
    type Class = Transport;

    fn call<'py>(transport: &Bound<'py, Transport>) -> PyResult<Bound<'py, PyAny>> {
        let py = transport.py();
        let closing = transport.get().is_closing(py);
        Ok(PyBool::new(py, closing).to_owned().into_any())
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

//! Whether something can be called with so many arguments, as far as that is known beforehand.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFunction, PyMapping, PyTuple, PyType};

use crate::methods;

/// The flag of code that takes any number of positional arguments.
const CO_VARARGS: usize = 0x04;

/// False only where a call with `count` positional arguments fails for certain.
///
/// Functions are looked at, and what leads to one: methods, objects with `__call__`, partials
/// without keywords. What is not written in Python is trusted.
#[pyfunction]
#[pyo3(signature = (callable, count, /))]
pub fn can_take(callable: &Bound<'_, PyAny>, count: usize) -> PyResult<bool> {
    let known = known(callable.py())?;
    let (mut callable, mut count) = (callable.clone(), count);
    loop {
        if let Ok(function) = callable.cast_exact::<PyFunction>() {
            return function_can_take(function, count);
        }
        let class = callable.get_type();
        if let Some(function) = methods::function_of(&callable) {
            callable = function;
            count += 1;
        } else if class.is(&known.partial) {
            let Some(more) = positional_of(&callable, known)? else {
                return Ok(true);
            };
            callable = callable.getattr("func")?;
            count += more;
        } else if let Some(call) = call_of(&class)? {
            callable = call;
            count += 1;
        } else {
            return Ok(true);
        }
    }
}

fn function_can_take(function: &Bound<'_, PyFunction>, count: usize) -> PyResult<bool> {
    let py = function.py();
    let code = function.getattr(intern!(py, "__code__"))?;
    let number = |name| -> PyResult<usize> { code.getattr(name)?.extract() };
    let positional = number(intern!(py, "co_argcount"))?;
    let keyword_only = number(intern!(py, "co_kwonlyargcount"))?;
    if keyword_only > 0 {
        let names = code.getattr("co_varnames")?;
        let names = names.cast::<PyTuple>()?;
        let defaults = function.getattr("__kwdefaults__")?;
        let defaults = defaults.cast::<PyDict>().ok();
        for name in names.iter().skip(positional).take(keyword_only) {
            let has_default = defaults.map(|defaults| defaults.contains(name));
            if !has_default.transpose()?.unwrap_or(false) {
                return Ok(false);
            }
        }
    }
    if count > positional {
        return Ok(number(intern!(py, "co_flags"))? & CO_VARARGS != 0);
    }
    if count == positional {
        return Ok(true);
    }
    let defaults = function.getattr("__defaults__")?;
    let defaults = defaults.cast::<PyTuple>().map_or(0, PyTupleMethods::len);
    Ok(count + defaults >= positional)
}

/// How many positional arguments a partial adds; `None` if it does more than that.
fn positional_of(partial: &Bound<'_, PyAny>, known: &Known) -> PyResult<Option<usize>> {
    if !partial.getattr("keywords")?.is_empty()? {
        return Ok(None);
    }
    let arguments = partial.getattr("args")?;
    let arguments = arguments.cast::<PyTuple>()?;
    let is_place = |argument: &Bound<'_, PyAny>| {
        let placeholder = known.placeholder.as_ref();
        placeholder.is_some_and(|placeholder| argument.is(placeholder))
    };
    let simple = !arguments.iter().any(|argument| is_place(&argument));
    Ok(simple.then(|| arguments.len()))
}

/// The plain function that instances of a class are called with, if it is one.
fn call_of<'py>(class: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, PyAny>>> {
    for class in class.mro() {
        // As it was written: a static method is another thing than a function.
        let members = class.getattr("__dict__")?;
        let members = members.cast::<PyMapping>()?;
        if members.contains("__call__")? {
            let call = members.get_item("__call__")?;
            return Ok(call.is_exact_instance_of::<PyFunction>().then_some(call));
        }
    }
    Ok(None)
}

struct Known {
    partial: Py<PyAny>,
    /// Stands in a partial's arguments for one that is still to come; newer than Python 3.13.
    placeholder: Option<Py<PyAny>>,
}

fn known(py: Python<'_>) -> PyResult<&Known> {
    static KNOWN: PyOnceLock<Known> = PyOnceLock::new();
    KNOWN.get_or_try_init(py, || {
        let functools = py.import("functools")?;
        Ok(Known {
            partial: functools.getattr("partial")?.unbind(),
            placeholder: functools.getattr_opt("Placeholder")?.map(Bound::unbind),
        })
    })
}

//! How data is cut into packets: from Python's value to the engine's.

use mantou_engine::{Framing, Width};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyInt, PyString};

const CHOICES: &str = "\"raw\", \"line\", 1, 2 or 4";

/// What `packet` says; `name` is how the error calls it.
pub fn framing(given: &Bound<'_, PyAny>, name: &str) -> PyResult<Framing> {
    let wrong = |given| -> PyResult<String> {
        Ok(format!("{name} must be {CHOICES}, got {}", shown(given)?))
    };
    let text = given.cast::<PyString>().ok();
    let number = given.is_instance_of::<PyInt>() && !given.is_instance_of::<PyBool>();
    if text.is_none() && !number {
        return Err(PyTypeError::new_err(wrong(given)?));
    }
    let framing = match text.map(PyStringMethods::to_cow).transpose()?.as_deref() {
        Some("raw") => Some(Framing::Raw),
        Some("line") => Some(Framing::Line),
        Some(_) => None,
        None => match given.extract() {
            Ok(1) => Some(Framing::Prefixed(Width::One)),
            Ok(2) => Some(Framing::Prefixed(Width::Two)),
            Ok(4) => Some(Framing::Prefixed(Width::Four)),
            _ => None,
        },
    };
    framing
        .ok_or(())
        .or_else(|()| Err(PyValueError::new_err(wrong(given)?)))
}

/// A length that `packet_size` says, which the engine can count.
pub fn size(given: &Bound<'_, PyAny>) -> PyResult<usize> {
    if !given.is_instance_of::<PyInt>() || given.is_instance_of::<PyBool>() {
        let text = format!("packet_size must be an int or None, got {}", shown(given)?);
        return Err(PyTypeError::new_err(text));
    }
    let size: Option<usize> = given.extract().ok();
    let wrong = || -> PyResult<usize> {
        let text = format!("packet_size must be 1 or more, got {}", shown(given)?);
        Err(PyValueError::new_err(text))
    };
    size.filter(|size| (1..=isize::MAX.cast_unsigned()).contains(size))
        .map_or_else(wrong, Ok)
}

/// Raises what is wrong with the option `packet`.
#[pyfunction]
#[pyo3(signature = (packet, /))]
pub fn check_packet(packet: &Bound<'_, PyAny>) -> PyResult<()> {
    framing(packet, "option 'packet'").map(drop)
}

/// A value as error messages show it.
fn shown(value: &Bound<'_, PyAny>) -> PyResult<String> {
    static SHOWN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let shown = SHOWN.import(value.py(), "mantou._validate", "shown")?;
    shown.call1((value,))?.extract()
}

//! `mantou._core`: the engine, seen from Python.

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
mod _core {}

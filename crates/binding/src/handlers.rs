//! A compiled table of handlers: looked up once, called often.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use crate::dispatch::Stage;

/// How incoming bytes are handed over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BinaryType {
    Bytes,
    Bytearray,
    Memoryview,
}

/// One set of handlers; `None` where there is none.
#[pyclass(frozen, module = "mantou._core")]
pub struct Handlers {
    open: Option<Py<PyAny>>,
    pub data: Option<Py<PyAny>>,
    drain: Option<Py<PyAny>>,
    end: Option<Py<PyAny>>,
    close: Option<Py<PyAny>>,
    error: Option<Py<PyAny>>,
    timeout: Option<Py<PyAny>>,
    connect_error: Option<Py<PyAny>>,
    handshake: Option<Py<PyAny>>,
    pub binary_type: BinaryType,
}

impl Handlers {
    /// What a user gave as `socket=`, in any of its forms.
    pub fn compile(given: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        static COMPILE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = given.py();
        let table = COMPILE
            .import(py, "mantou._handlers", "compile_handlers")?
            .call1((given,))?;
        Py::new(py, Self::new(&table)?)
    }

    pub fn of(&self, stage: Stage) -> Option<&Py<PyAny>> {
        let handler = match stage {
            Stage::Open => &self.open,
            Stage::Data => &self.data,
            Stage::Drain => &self.drain,
            Stage::End => &self.end,
            Stage::Close => &self.close,
            Stage::Error => &self.error,
            Stage::Timeout => &self.timeout,
            Stage::ConnectError => &self.connect_error,
            Stage::Handshake => &self.handshake,
        };
        handler.as_ref()
    }
}

#[pymethods]
impl Handlers {
    /// Takes over the fields of a validated table.
    #[new]
    fn new(table: &Bound<'_, PyAny>) -> PyResult<Self> {
        let field = |name: &str| -> PyResult<Option<Py<PyAny>>> {
            let handler = table.getattr(name)?;
            Ok((!handler.is_none()).then(|| handler.unbind()))
        };
        let binary_type = table.getattr("binary_type")?;
        let binary_type = match binary_type.extract()? {
            "bytes" => BinaryType::Bytes,
            "bytearray" => BinaryType::Bytearray,
            "memoryview" => BinaryType::Memoryview,
            other => return Err(PyValueError::new_err(format!("binary_type: {other}"))),
        };
        Ok(Self {
            open: field("open")?,
            data: field("data")?,
            drain: field("drain")?,
            end: field("end")?,
            close: field("close")?,
            error: field("error")?,
            timeout: field("timeout")?,
            connect_error: field("connect_error")?,
            handshake: field("handshake")?,
            binary_type,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let all = [
            &self.open,
            &self.data,
            &self.drain,
            &self.end,
            &self.close,
            &self.error,
            &self.timeout,
            &self.connect_error,
            &self.handshake,
        ];
        for handler in all.into_iter().flatten() {
            visit.call(handler)?;
        }
        Ok(())
    }
}

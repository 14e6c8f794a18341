//! A compiled table of handlers: looked up once, called often.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

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
    pub open: Option<Py<PyAny>>,
    pub data: Option<Py<PyAny>>,
    pub drain: Option<Py<PyAny>>,
    pub end: Option<Py<PyAny>>,
    pub close: Option<Py<PyAny>>,
    pub error: Option<Py<PyAny>>,
    pub timeout: Option<Py<PyAny>>,
    pub connect_error: Option<Py<PyAny>>,
    pub handshake: Option<Py<PyAny>>,
    pub binary_type: BinaryType,
}

#[pymethods]
impl Handlers {
    /// Takes over the fields of a validated table.
    #[new]
    fn new(table: &Bound<'_, PyAny>) -> PyResult<Self> {
        let field = |name: &str| table.getattr(name)?.extract::<Option<Py<PyAny>>>();
        let binary_type = match table.getattr("binary_type")?.extract()? {
            0 => BinaryType::Bytes,
            1 => BinaryType::Bytearray,
            2 => BinaryType::Memoryview,
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

//! What records are read from and written to: the C objects of the `ssl` module.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit, intern};

/// The two `ssl.MemoryBIO`s of an engine.
pub struct Bios(PyOnceLock<(Py<PyAny>, Py<PyAny>)>);

impl Default for Bios {
    fn default() -> Self {
        Self(PyOnceLock::new())
    }
}

impl Bios {
    /// The one that OpenSSL reads from, and the one that it writes to.
    pub fn get(&self, py: Python<'_>) -> PyResult<&(Py<PyAny>, Py<PyAny>)> {
        self.0.get_or_try_init(py, || {
            let class = py.import("ssl")?.getattr("MemoryBIO")?;
            Ok((class.call0()?.unbind(), class.call0()?.unbind()))
        })
    }
}

/// What is read from and written to, by methods that were looked up once.
pub struct Channel {
    pub object: Py<PyAny>,
    /// Those of its class.
    pub read: Py<PyAny>,
    write: Py<PyAny>,
}

impl Channel {
    pub fn new(object: Bound<'_, PyAny>) -> PyResult<Self> {
        let (py, class) = (object.py(), object.get_type());
        Ok(Self {
            object: object.unbind(),
            read: class.getattr(intern!(py, "read"))?.unbind(),
            write: class.getattr(intern!(py, "write"))?.unbind(),
        })
    }

    pub fn write<'py>(&self, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = data.py();
        self.write.bind(py).call1((&self.object, data))
    }

    /// What a `MemoryBIO` has.
    pub fn take_all<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if self.is_empty(py)? {
            return Ok(None);
        }
        self.read_all(py).map(Some)
    }

    /// The same where there is something for sure: asking costs half as much as reading.
    pub fn read_all<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let all = self.read.bind(py).call1((&self.object,))?;
        Ok(all.cast_into()?)
    }

    pub fn is_empty(&self, py: Python<'_>) -> PyResult<bool> {
        let pending = self.object.bind(py).getattr(intern!(py, "pending"))?;
        pending.is_truthy().map(|pending| !pending)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        visit.call(&self.read)?;
        visit.call(&self.write)
    }
}

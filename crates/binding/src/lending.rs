//! Our memory, lent to Python for the time of one call. One of the files with `unsafe`.

use std::ffi::{c_int, c_void};
use std::mem;
use std::ops::Range;
use std::ptr;

use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use pyo3::{ffi, intern};

use crate::cell::Guarded;

/// The memory that is read into, which Python gets to see for the time of one call.
pub struct ReadBuffer {
    /// `size` bytes; none while they are lent, or before they are needed.
    memory: Vec<u8>,
    size: usize,
    lender: Lender,
}

impl ReadBuffer {
    pub fn new(size: usize) -> Self {
        Self {
            memory: Vec::new(),
            size,
            lender: Lender::default(),
        }
    }

    #[inline]
    pub fn memory(&mut self) -> &mut [u8] {
        if self.memory.is_empty() {
            self.memory = vec![0; self.size];
        }
        &mut self.memory
    }

    #[inline]
    pub fn filled(&self, len: usize) -> &[u8] {
        &self.memory[..len]
    }

    /// What there is from `start` on, and at least so much.
    pub fn room(&mut self, start: usize, least: usize) -> Range<usize> {
        if self.memory().len() < start + least {
            self.memory.resize(start + least + self.size, 0);
        }
        start..self.memory.len()
    }

    /// Somebody has views of what was lent last, and it is theirs now.
    pub fn is_kept(&self) -> bool {
        self.memory.is_empty()
    }

    /// Calls with a memoryview of the first `len` bytes, which is released when the call returns.
    pub fn lend<'py, R>(
        &mut self,
        py: Python<'py>,
        len: usize,
        call: impl FnOnce(&Bound<'py, PyMemoryView>) -> PyResult<R>,
    ) -> PyResult<R> {
        self.lend_raw(py, &Part::to_read(0..len), |loan| {
            let view = PyMemoryView::from(loan)?;
            let outcome = call(&view);
            release(&view).and(outcome)
        })
    }

    /// Calls with an object that shows a part of it.
    #[inline]
    pub fn show<'py, R>(
        &mut self,
        py: Python<'py>,
        range: Range<usize>,
        call: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>,
    ) -> PyResult<R> {
        self.lender.show(py, &mut self.memory, range, call)
    }

    /// Writes to its front.
    pub fn put(&mut self, bytes: &[u8]) {
        let room = self.room(0, bytes.len());
        self.memory[room][..bytes.len()].copy_from_slice(bytes);
    }

    /// Calls with an object that offers a part of it to whoever takes buffers.
    #[inline]
    pub fn lend_raw<'py, R>(
        &mut self,
        py: Python<'py>,
        part: &Part,
        call: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>,
    ) -> PyResult<R> {
        self.lender.lend(py, &mut self.memory, part, call)
    }
}

/// Has a view refuse to be used from now on.
pub fn release(view: &Bound<'_, PyMemoryView>) -> PyResult<()> {
    let py = view.py();
    match view.call_method0(intern!(py, "release")) {
        // A view of it is alive; that is for whoever lent the memory to deal with.
        Err(error) if !error.is_instance_of::<PyBufferError>(py) => Err(error),
        _ => Ok(()),
    }
}

/// Which bytes are lent, and what for.
pub struct Part {
    range: Range<usize>,
    writable: bool,
}

impl Part {
    pub fn to_read(range: Range<usize>) -> Self {
        Self {
            range,
            writable: false,
        }
    }

    pub fn to_fill(range: Range<usize>) -> Self {
        Self {
            range,
            writable: true,
        }
    }
}

/// To copy so little is cheaper than to lend it.
const COPIED: usize = 2048;

/// Lends memory to Python for the time of one call, again and again.
#[derive(Default)]
pub struct Lender {
    /// What it lent last, if that can be used again.
    loan: Option<Py<Loan>>,
}

impl Lender {
    /// Calls with an object that shows a part of `memory`: it is lent, or copied where that is
    /// cheaper.
    #[inline]
    pub fn show<'py, R>(
        &mut self,
        py: Python<'py>,
        memory: &mut Vec<u8>,
        range: Range<usize>,
        call: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>,
    ) -> PyResult<R> {
        if range.len() <= COPIED {
            return call(PyBytes::new(py, &memory[range]).as_any());
        }
        self.lend(py, memory, &Part::to_read(range), call)
    }

    /// Calls with an object that offers a part of `memory`.
    ///
    /// A view that was kept would still point into the memory: it stays with the view then, and
    /// `memory` is empty.
    pub fn lend<'py, R>(
        &mut self,
        py: Python<'py>,
        memory: &mut Vec<u8>,
        part: &Part,
        call: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>,
    ) -> PyResult<R> {
        let loan = match self.loan.take() {
            Some(loan) => loan.into_bound(py),
            None => Bound::new(py, Loan::default())?,
        };
        let lent = mem::take(memory);
        loan.get().0.with(py, |all| {
            all.part = part.range.start.min(lent.len())..part.range.end.min(lent.len());
            all.writable = part.writable;
            all.memory = lent;
        });
        let outcome = call(loan.as_any());
        if let Some(back) = loan.get().0.with(py, Lent::take) {
            *memory = back;
            self.loan = Some(loan.unbind());
        }
        outcome
    }
}

/// Holds memory while Python has views of it. Python can get at it (`view.obj`) and keep it, but
/// gets no views from it at other times.
#[pyclass(frozen, module = "mantou._core", name = "_Loan")]
#[derive(Default)]
pub struct Loan(Guarded<Lent>);

#[derive(Default)]
struct Lent {
    memory: Vec<u8>,
    part: Range<usize>,
    writable: bool,
    views: usize,
}

impl Lent {
    fn take(&mut self) -> Option<Vec<u8>> {
        self.part = 0..0;
        (self.views == 0).then(|| mem::take(&mut self.memory))
    }
}

#[pymethods]
impl Loan {
    /// # Safety
    /// Called by Python, with a view to be filled in.
    #[allow(clippy::needless_pass_by_value)]
    unsafe fn __getbuffer__(
        this: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let py = this.py();
        let lent = &this.get().0;
        let (pointer, len, writable) = lent.with(py, |lent| {
            let part = lent.memory.get_mut(lent.part.clone()).unwrap_or_default();
            (part.as_mut_ptr(), part.len(), lent.writable)
        });
        if len == 0 {
            // SAFETY: `view` is the caller's to fill in; without an object it counts as failed.
            unsafe { (*view).obj = ptr::null_mut() };
            return Err(PyBufferError::new_err(
                "received bytes are lent for the time of the call only",
            ));
        }
        let (len, read_only) = (isize::try_from(len).unwrap_or(0), (!writable).into());
        // SAFETY: `view` is the caller's to fill in; the memory holds `len` bytes and stays where
        // it is until the last view is released, because `take` leaves it here till then.
        let result = unsafe {
            let (owner, memory) = (this.as_ptr(), pointer.cast::<c_void>());
            ffi::PyBuffer_FillInfo(view, owner, memory, len, read_only, flags)
        };
        if result != 0 {
            return Err(PyErr::fetch(py));
        }
        lent.with(py, |lent| lent.views += 1);
        Ok(())
    }

    /// # Safety
    /// Called by Python, once for each view that was filled in. The view is not looked at.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        Python::attach(|py| self.0.with(py, |lent| lent.views -= 1));
    }
}

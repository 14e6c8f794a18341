//! Bytes across the border, without copies. One of the files with `unsafe`.

use std::ffi::{c_int, c_void};
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::ops::Range;
use std::ptr::{self, NonNull};

use mantou_engine::{Keep, Owner, Piece};
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::ffi::compat;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyMemoryView, PyString};

use crate::cell::Guarded;

/// What a user may hand over to be sent: str (as UTF-8) or any C-contiguous buffer.
pub enum Outgoing<'a, 'py> {
    Bytes(&'a Bound<'py, PyBytes>),
    Text(&'a Bound<'py, PyString>),
    View(View),
}

impl<'a, 'py> Outgoing<'a, 'py> {
    #[inline]
    pub fn new(data: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            return Ok(Self::Bytes(bytes));
        }
        if let Ok(text) = data.cast::<PyString>() {
            return Ok(Self::Text(text));
        }
        View::new(data).map(Self::View)
    }

    #[inline]
    pub fn as_slice(&self) -> PyResult<&[u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.as_bytes()),
            Self::Text(text) => text.to_str().map(str::as_bytes),
            Self::View(view) => Ok(view.as_slice()),
        }
    }

    #[inline]
    pub fn as_piece(&self) -> PyResult<Piece<'_>> {
        Ok(Piece::of(self, self.as_slice()?))
    }
}

impl Keep for Outgoing<'_, '_> {
    /// Only what is bytes and nothing more: it does not change, and letting go of it runs nothing,
    /// so the engine may do that while it is borrowed.
    fn keep(&self) -> Option<Owner> {
        match self {
            Self::Bytes(bytes) => Some(Box::new(PyBackedBytes::from((*bytes).clone()))),
            Self::Text(_) | Self::View(_) => None,
        }
    }
}

/// A held buffer of some Python object.
pub struct View(Box<ffi::Py_buffer>);

impl View {
    fn new(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let error = match Self::get(data, ffi::PyBUF_SIMPLE) {
            Ok(view) => return Ok(view),
            Err(error) => error,
        };
        let py = data.py();
        if error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyBufferError>(py) {
            let class = data.get_type();
            return Err(PyTypeError::new_err(format!(
                "data must be str or a C-contiguous buffer, not {}{}",
                class.name()?,
                if error.is_instance_of::<PyBufferError>(py) {
                    " of another shape"
                } else {
                    ""
                },
            )));
        }
        Err(error)
    }

    fn get(data: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::uninit());
        // SAFETY: a live object and room for a view; on success the view is filled in.
        let result = unsafe { ffi::PyObject_GetBuffer(data.as_ptr(), view.as_mut_ptr(), flags) };
        if result != 0 {
            return Err(PyErr::fetch(data.py()));
        }
        // SAFETY: the call succeeded, so it was initialised.
        Ok(Self(unsafe { view.assume_init() }))
    }

    fn as_slice(&self) -> &[u8] {
        if self.0.len <= 0 || self.0.buf.is_null() {
            return &[];
        }
        // SAFETY: the view holds `len` contiguous bytes for as long as it is not released. Their
        // owner may be mutable, but nothing else runs while the lock is held for one send.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast(), self.0.len.cast_unsigned()) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: acquired by PyObject_GetBuffer and released once; the lock is held, because
        // views live on the stack of a call from Python.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) }
    }
}

/// Somebody's memory to receive into, held for the time of one read.
pub struct Room(View);

impl Room {
    /// An exception if it is not writable.
    pub fn new(buffer: &Bound<'_, PyAny>) -> PyResult<Self> {
        View::get(buffer, ffi::PyBUF_WRITABLE).map(Self)
    }

    pub fn memory(&mut self) -> &mut [u8] {
        let view = &self.0.0;
        if view.len <= 0 || view.buf.is_null() {
            return &mut [];
        }
        // SAFETY: the view holds `len` contiguous, writable bytes for as long as it is not
        // released, and nothing else runs while the lock is held for one read.
        unsafe { std::slice::from_raw_parts_mut(view.buf.cast(), view.len.cast_unsigned()) }
    }
}

/// A bytes object in the making: received into, then cut to what came. Nobody else has it before.
pub struct Draft<'py> {
    writer: NonNull<compat::PyBytesWriter>,
    room: usize,
    py: Python<'py>,
}

impl<'py> Draft<'py> {
    /// `None` if there is no memory for it.
    pub fn new(py: Python<'py>, room: usize) -> Option<Self> {
        // SAFETY: the lock is held; a negative size is refused.
        let writer = unsafe { compat::PyBytesWriter_Create(room.cast_signed()) };
        if let Some(writer) = NonNull::new(writer) {
            return Some(Self { writer, room, py });
        }
        drop(PyErr::take(py));
        None
    }

    /// Memory to write to; what it holds before is of no meaning.
    pub fn room(&mut self) -> &mut [u8] {
        // SAFETY: the writer holds `room` bytes that are ours alone until it is finished. They are
        // not initialised, and those who get them only write.
        unsafe {
            let start = compat::PyBytesWriter_GetData(self.writer.as_ptr());
            std::slice::from_raw_parts_mut(start.cast(), self.room)
        }
    }

    /// The first `len` bytes, which must have been written.
    pub fn finish(self, len: usize) -> PyResult<Bound<'py, PyBytes>> {
        let this = ManuallyDrop::new(self);
        let len = len.min(this.room).cast_signed();
        // SAFETY: the writer is finished once, here, and not discarded any more. It returns a new
        // bytes object, or null with an exception set.
        let bytes = unsafe {
            let bytes = compat::PyBytesWriter_FinishWithSize(this.writer.as_ptr(), len);
            Bound::from_owned_ptr_or_err(this.py, bytes)?
        };
        Ok(bytes.cast_into()?)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // SAFETY: it was not finished; the lock is held.
        unsafe { compat::PyBytesWriter_Discard(self.writer.as_ptr()) }
    }
}

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

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        Python::attach(|py| self.0.with(py, |lent| lent.views -= 1));
    }
}

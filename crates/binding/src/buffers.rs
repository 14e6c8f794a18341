//! Bytes across the border, without copies: what Python hands in, and what it gets. One of the files
//! with `unsafe`. What is lent to it: `lending.rs`.

use std::ffi::c_int;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;

use mantou_engine::{Keep, Owner, Piece};
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::ffi::compat;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyString};

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

    pub fn is_empty(&self) -> bool {
        self.0.0.len <= 0
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

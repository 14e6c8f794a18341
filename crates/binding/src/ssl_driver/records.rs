//! Records, opened and sealed by OpenSSL through buffers that are lent to it.

use std::ops::Range;

use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyMemoryView, PyType};

use super::{Driven, PIECE, Progress, SslPump, want_read};
use crate::lending::{Lender, Part, ReadBuffer};
use crate::work::Work;

/// Plaintext of a full record.
const FULL_RECORD: usize = 16 * 1024;
/// Any record is longer than its plaintext by more than this: by a header, and by the shortest tag
/// that there is, which comes with a nonce or with the type of what is inside.
const OVERHEAD: usize = 5 + 8;

impl SslPump {
    /// Opens the records that have come whole, and keeps the rest.
    pub(super) fn open<'py>(
        &self,
        py: Python<'py>,
        work: &mut Work,
        ciphertext: Range<usize>,
        as_bytes: bool,
        driven: &mut Driven<'py>,
    ) -> PyResult<()> {
        let may_be_record = as_bytes && !self.is_overridden();
        let mut left = ciphertext.clone();
        while !left.is_empty() && !driven.peer_closed {
            let rest = &work.ciphertext.filled(left.end)[left.start..];
            let (passed, unfed) = self.progress.with(py, |progress| {
                let passed = progress.framing.advance(rest, PIECE);
                if passed.records == 0 {
                    progress.unfed.extend_from_slice(&rest[..passed.len]);
                }
                (passed, progress.unfed.len())
            });
            let piece = left.start..left.start + passed.len;
            left.start = piece.end;
            if passed.records > 0 {
                self.feed_unfed(py, &mut work.lender)?;
                self.feed(py, &mut work.ciphertext, piece.clone())?;
                if may_be_record && passed.records == 1 && piece == ciphertext {
                    let len = unfed + piece.len();
                    self.open_record(py, &mut work.buffer, driven, len)?;
                } else {
                    self.open_records(py, &mut work.buffer, driven, passed.records)?;
                }
            }
        }
        Ok(())
    }

    /// Opens a record that is so long, into bytes of its own.
    fn open_record<'py>(
        &self,
        py: Python<'py>,
        buffer: &mut ReadBuffer,
        driven: &mut Driven<'py>,
        len: usize,
    ) -> PyResult<()> {
        let room = len.saturating_sub(OVERHEAD).max(1);
        let records = &self.records;
        let plaintext = match records.read.bind(py).call1((&records.object, room)) {
            Ok(plaintext) => plaintext.cast_into::<PyBytes>()?,
            Err(error) if error.is_instance(py, want_read(py)?) => return Ok(()),
            Err(error) if error.is_instance(py, zero_return(py)?) => PyBytes::new(py, b""),
            Err(error) => return Err(error),
        };
        let n = plaintext.as_bytes().len();
        if n == room {
            // It was compressed, and there may be more of it.
            buffer.put(plaintext.as_bytes());
            driven.opened = n;
            return self.open_records(py, buffer, driven, 1);
        }
        driven.peer_closed = n == 0;
        driven.record = (n > 0).then_some(plaintext);
        Ok(())
    }

    /// Opens what OpenSSL was given: so many records. To ask it for one that is not there costs an
    /// exception.
    fn open_records(
        &self,
        py: Python<'_>,
        buffer: &mut ReadBuffer,
        driven: &mut Driven<'_>,
        records: usize,
    ) -> PyResult<()> {
        loop {
            let room = buffer.room(driven.opened, FULL_RECORD);
            let outcome = buffer.lend_raw(py, &Part::to_fill(room.clone()), |place| {
                let (records, place) = (&self.records, self.show(place)?);
                let read = records.read.bind(py);
                read.call1((&records.object, room.len(), place))
            });
            let n: usize = match outcome {
                Ok(n) => n.extract()?,
                Err(error) if error.is_instance(py, want_read(py)?) => return Ok(()),
                Err(error) if error.is_instance(py, zero_return(py)?) => 0,
                Err(error) => return Err(error),
            };
            if buffer.is_kept() {
                // With everything that was opened before.
                driven.opened = 0;
                return Err(kept("read"));
            }
            driven.opened += n;
            driven.peer_closed = n == 0;
            // What a record holds comes at once. There may have been others before it.
            if n == 0 || records == 1 || self.incoming.is_empty(py)? {
                return Ok(());
            }
        }
    }

    /// What is lent, in a form that Python can work with if it gets to see it.
    fn show<'py>(&self, lent: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if self.is_overridden() {
            return Ok(PyMemoryView::from(lent)?.into_any());
        }
        Ok(lent.clone())
    }

    /// Gives OpenSSL a piece of the turn's ciphertext.
    pub(super) fn feed(
        &self,
        py: Python<'_>,
        ciphertext: &mut ReadBuffer,
        piece: Range<usize>,
    ) -> PyResult<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let written = ciphertext.show(py, piece, |piece| self.incoming.write(piece));
        written.map(drop)
    }

    /// The same with what had to wait.
    pub(super) fn feed_unfed(&self, py: Python<'_>, lender: &mut Lender) -> PyResult<()> {
        let take = |progress: &mut Progress| std::mem::take(&mut progress.unfed);
        let mut unfed = self.progress.with(py, take);
        if unfed.is_empty() {
            return Ok(());
        }
        let all = 0..unfed.len();
        let written = lender.show(py, &mut unfed, all, |piece| self.incoming.write(piece));
        written.map(drop)
    }

    pub(super) fn seal<'py>(
        &self,
        py: Python<'py>,
        lender: &mut Lender,
        sealed: &mut Vec<Bound<'py, PyBytes>>,
    ) -> PyResult<()> {
        let take = |progress: &mut Progress| std::mem::take(&mut progress.unsealed);
        let mut plaintext = self.progress.with(py, take);
        let (len, mut done) = (plaintext.len(), 0);
        while done < len {
            let piece = done..len.min(done + FULL_RECORD);
            let outcome = lender.show(py, &mut plaintext, piece, |piece| {
                let n = self.records.write(&self.show(piece)?)?;
                n.extract::<usize>()
            });
            if plaintext.is_empty() {
                return Err(kept("write"));
            }
            match outcome {
                Ok(n) => done += n,
                Err(error) if error.is_instance(py, want_read(py)?) => break,
                Err(error) => return Err(error),
            }
            sealed.push(self.outgoing.read_all(py)?);
        }
        if done < len {
            plaintext.drain(..done);
            self.progress.with(py, |it| it.unsealed = plaintext);
        }
        Ok(())
    }
}

fn zero_return(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "ssl", "SSLZeroReturnError")
}

fn kept(method: &str) -> PyErr {
    PyBufferError::new_err(format!(
        "{method}() of the SSLObject kept the buffer that it was given"
    ))
}

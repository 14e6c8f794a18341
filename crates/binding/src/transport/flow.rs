//! Flow control: what a transport reads, how much of what it was given waits.

// The doc comments of `#[pymethods]` are Python's docstrings: `:param data:` takes no backticks.
#![allow(clippy::doc_markdown)]

use mantou_engine as core;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use super::{HIGH_WATER, HIGH_WATER_TLS, State, Transport};

/// So much is gathered within a turn, at most.
const GATHERED: usize = 64 * 1024;

#[pymethods]
impl Transport {
    /// Has the protocol get nothing until `resume_reading()`.
    fn pause_reading(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state.get(py);
        if state.closing || state.reading_paused {
            return Ok(());
        }
        self.state.with(py, |state| state.reading_paused = true);
        self.set_paused(py, true)
    }

    /// Goes on reading.
    fn resume_reading(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state.get(py);
        if state.closing || !state.reading_paused {
            return Ok(());
        }
        self.state.with(py, |state| state.reading_paused = false);
        if state.begun {
            self.set_paused(py, false)?;
        }
        Ok(())
    }

    /// Whether the protocol gets what comes.
    fn is_reading(&self, py: Python<'_>) -> bool {
        let state = self.state.get(py);
        !state.closing && !state.reading_paused
    }

    /// Bytes that wait to be sent.
    fn get_write_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.socket
            .get()
            .with(py, |core, token| core.waiting(token))
    }

    /// The low and the high limit, in bytes.
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        let state = self.state.get(py);
        (state.low_water, state.high_water)
    }

    /// When the protocol's `pause_writing()` and `resume_writing()` are called.
    ///
    /// :param high: in bytes; by default 64 KiB (512 KiB over TLS), or four times `low`.
    /// :param low: in bytes; by default a quarter of `high`.
    /// :raises ValueError: not `high >= low >= 0`.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(
        this: &Bound<'_, Self>,
        high: Option<isize>,
        low: Option<isize>,
    ) -> PyResult<()> {
        let py = this.py();
        let default = if this.get().state.get(py).secure {
            HIGH_WATER_TLS
        } else {
            HIGH_WATER
        };
        let high = high.unwrap_or_else(|| match low {
            Some(low) => low.saturating_mul(4),
            None => default.cast_signed(),
        });
        let low = low.unwrap_or(high / 4);
        if !(high >= low && low >= 0) {
            return Err(PyValueError::new_err(format!(
                "high ({high}) must be >= low ({low}) must be >= 0"
            )));
        }
        this.get().state.with(py, |state| {
            state.high_water = high.unsigned_abs();
            state.low_water = low.unsigned_abs();
        });
        this.get().mark(py)?;
        let waiting = this.get().get_write_buffer_size(py)?;
        if this.get().is_closing(py) && waiting == 0 {
            return Ok(());
        }
        pause_protocol(this, waiting)
    }

    /// The protocol was told to stop writing.
    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> bool {
        self.state.get(py).writing_paused
    }

    /// So little waits that the protocol may write again, which it is about to be told.
    fn _take_resumption(&self, py: Python<'_>) -> PyResult<bool> {
        let waiting = self.get_write_buffer_size(py)?;
        Ok(self.state.with(py, |state| {
            state.writing_paused && waiting <= state.low_water && {
                state.writing_paused = false;
                true
            }
        }))
    }

    /// Has `_on_drain()` called when nothing waits any more, and refuses writes until then and on;
    /// or no longer.
    fn _reserve_for_file(&self, py: Python<'_>, reserve: bool) -> PyResult<()> {
        self.state.with(py, |state| state.sends_file = reserve);
        self.mark(py)?;
        self.socket.get().with(py, core::Engine::await_drain)
    }
}

impl Transport {
    pub(super) fn set_paused(&self, py: Python<'_>, paused: bool) -> PyResult<()> {
        let socket = self.socket.get();
        socket.with(py, |core, token| core.set_paused(token, paused))
    }

    /// Tells the engine of the limits.
    pub(super) fn mark(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state.get(py);
        // What was gathered never goes over the limit: then sending it needs no second look.
        let gathered = GATHERED.min(state.high_water);
        let low = if state.sends_file { 0 } else { state.low_water };
        let socket = self.socket.get();
        socket.with(py, |core, token| core.set_marks(token, gathered, low))
    }
}

/// Has the protocol write no more, if so much waits that it is time.
pub(super) fn pause_protocol(this: &Bound<'_, Transport>, waiting: usize) -> PyResult<()> {
    let py = this.py();
    let transport = this.get();
    let due = transport.state.with(py, |state| {
        let due = is_over(*state, waiting) && !state.writing_paused;
        state.writing_paused |= due;
        due
    });
    if due {
        transport.socket.get().with(py, core::Engine::await_drain)?;
        this.call_method0(intern!(py, "_pause_writing"))?;
    }
    Ok(())
}

/// asyncio's TLS stops a byte earlier than its plain transports.
fn is_over(state: State, waiting: usize) -> bool {
    waiting > state.high_water || (state.secure && waiting == state.high_water)
}

//! TLS by an `ssl.SSLContext`: records go through OpenSSL by the `ssl` module's own objects.
//!
//! OpenSSL itself could be called with the `SSL*` that they hold, or with one made here. The first
//! lies in a struct that is CPython's private matter, and the second would not have what was set up
//! on the context, callbacks above all. Their methods take buffers, so all that they cost is a call.

use mantou_engine::Outgoing;
use mantou_engine::tls::{Framing, Passed};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::buffers::{Lender, Part, ReadBuffer};
use crate::cell::Guarded;
use crate::work::{BUFFER_SIZE, Work};

/// Ciphertext that a `MemoryBIO` gets at once. It keeps memory for the most that it ever held, so
/// this is what a record may have, hardly more.
const PIECE: usize = 17 * 1024;
/// Plaintext of a full record, for the same reason.
const FULL_RECORD: usize = 16 * 1024;

/// Records of which nobody knows how many they are.
const SEVERAL: usize = usize::MAX;

/// Moves records through an `ssl.SSLObject` and its two `ssl.MemoryBIO`s.
#[pyclass(frozen, subclass, module = "mantou._core", name = "SSLPump")]
pub struct SslPump {
    object: Py<PyAny>,
    /// Who reads and writes for it: the C object inside, as long as nobody overrides that.
    records: Py<PyAny>,
    incoming: Py<PyAny>,
    outgoing: Py<PyAny>,
    progress: Guarded<Progress>,
}

#[derive(Default)]
struct Progress {
    established: bool,
    /// Where records end in what the peer has sent since then.
    framing: Framing,
    /// Accepted and not sealed yet: only a renegotiation has it wait.
    unsealed: Vec<u8>,
    /// `close_notify` is to follow it.
    finishing: bool,
}

/// What came of one call.
#[derive(Default)]
pub struct Driven<'py> {
    /// Bytes of plaintext at the front of the turn's buffer.
    pub opened: usize,
    /// There was no room for more.
    pub full: bool,
    pub sealed: Vec<Bound<'py, PyBytes>>,
    pub established: bool,
    pub stalled: bool,
    pub peer_closed: bool,
    pub error: Option<PyErr>,
}

impl SslPump {
    /// Opens so many bytes of the turn's ciphertext, and seals what is to be sent.
    pub fn drive<'py>(
        this: &Bound<'py, Self>,
        work: &mut Work,
        received: usize,
        outgoing: Outgoing,
    ) -> Driven<'py> {
        let (py, pump) = (this.py(), this.get());
        let mut driven = Driven::default();
        let mut outcome = pump.run(this, work, received, outgoing, &mut driven);
        if outcome.is_err() {
            // There may be an alert.
            outcome = outcome.and(pump.collect(py, &mut driven.sealed));
        }
        driven.error = outcome.err();
        (driven.established, driven.stalled) = pump.progress.with(py, |progress| {
            (progress.established, !progress.unsealed.is_empty())
        });
        driven
    }

    /// Opens what there was no room for.
    pub fn open_rest<'py>(this: &Bound<'py, Self>, work: &mut Work) -> Driven<'py> {
        let mut driven = Driven::default();
        let outcome = this
            .get()
            .open(this.py(), &mut work.buffer, &mut driven, SEVERAL);
        driven.error = outcome.err();
        driven.established = true;
        driven
    }

    fn run<'py>(
        &self,
        this: &Bound<'py, Self>,
        work: &mut Work,
        received: usize,
        outgoing: Outgoing,
        driven: &mut Driven<'py>,
    ) -> PyResult<()> {
        let py = this.py();
        if self.accept(py, outgoing) {
            self.seal(py, &mut work.lender, &mut driven.sealed)?;
        }
        let is_established = self.is_established(py);
        if received > 0 {
            if !is_established {
                let ciphertext = PyBytes::new(py, work.ciphertext.filled(received));
                this.call_method1(intern!(py, "hear"), (ciphertext,))?;
            }
            self.take_in(py, work, received, driven)?;
            if self.progress.with(py, |it| !it.unsealed.is_empty()) {
                self.seal(py, &mut work.lender, &mut driven.sealed)?;
            }
        } else if !is_established {
            self.shake_hands(py, &[])?;
        }
        if self.say_goodbye(py)? || received > 0 || !is_established {
            // OpenSSL writes by itself then: handshakes, alerts, key updates.
            self.collect(py, &mut driven.sealed)?;
        }
        Ok(())
    }

    fn take_in(
        &self,
        py: Python<'_>,
        work: &mut Work,
        received: usize,
        driven: &mut Driven<'_>,
    ) -> PyResult<()> {
        let mut fed = 0;
        while fed < received && !driven.peer_closed {
            let limit = if driven.full { received } else { PIECE };
            let passed = self.feed(py, &mut work.ciphertext, fed, received, limit)?;
            fed += passed.len;
            let records = if self.is_established(py) {
                passed.records
            } else if self.shake_hands(py, work.ciphertext.filled(fed))? {
                SEVERAL
            } else {
                0
            };
            self.open(py, &mut work.buffer, driven, records)?;
        }
        Ok(())
    }

    /// Takes what is to be sealed. Whether that can be tried at once.
    fn accept(&self, py: Python<'_>, outgoing: Outgoing) -> bool {
        self.progress.with(py, |progress| {
            progress.finishing |= outgoing.finish;
            if progress.unsealed.is_empty() {
                progress.unsealed = outgoing.plaintext;
                return !progress.unsealed.is_empty();
            }
            progress.unsealed.extend_from_slice(&outgoing.plaintext);
            false
        })
    }

    fn is_established(&self, py: Python<'_>) -> bool {
        self.progress.with(py, |progress| progress.established)
    }

    /// Gives OpenSSL what comes next of the ciphertext.
    fn feed(
        &self,
        py: Python<'_>,
        ciphertext: &mut ReadBuffer,
        fed: usize,
        received: usize,
        limit: usize,
    ) -> PyResult<Passed> {
        let rest = &ciphertext.filled(received)[fed..];
        let passed = self.progress.with(py, |progress| {
            if progress.established {
                return progress.framing.advance(rest, limit);
            }
            Passed {
                len: rest.len().min(limit),
                records: 0,
            }
        });
        let part = Part::to_read(fed..fed + passed.len);
        ciphertext.lend_raw(py, part, |piece| {
            let incoming = self.incoming.bind(py);
            incoming.call_method1(intern!(py, "write"), (piece,))
        })?;
        Ok(passed)
    }

    /// Goes on with the handshake. Whether it is done: then OpenSSL has read so far and not one byte
    /// of the record behind it.
    fn shake_hands(&self, py: Python<'_>, fed: &[u8]) -> PyResult<bool> {
        // The public method: whoever has more to check overrides it.
        let outcome = self
            .object
            .call_method0(py, intern!(py, "do_handshake"))
            .map(drop);
        if !unless_it_waits(py, outcome)? {
            return Ok(false);
        }
        let behind = self.waiting(py)?.min(fed.len());
        self.progress.with(py, |progress| {
            progress.established = true;
            let rest = &fed[fed.len() - behind..];
            progress.framing.advance(rest, rest.len());
        });
        Ok(true)
    }

    /// Opens so many records, or as many as have come whole. To ask for one that has not costs an
    /// exception.
    fn open(
        &self,
        py: Python<'_>,
        buffer: &mut ReadBuffer,
        driven: &mut Driven<'_>,
        records: usize,
    ) -> PyResult<()> {
        let mut due = records == 1 || (records > 1 && self.has_record(py)?);
        while due {
            let room = BUFFER_SIZE - driven.opened;
            driven.full = room == 0;
            if driven.full {
                return Ok(());
            }
            buffer.memory();
            let part = Part::to_fill(driven.opened..BUFFER_SIZE);
            let outcome = buffer.lend_raw(py, part, |room_for_it| {
                let records = self.records.bind(py);
                records.call_method1(intern!(py, "read"), (room, room_for_it))
            });
            let n: usize = match outcome {
                Ok(n) => n.extract()?,
                Err(error) if error.is_instance(py, want_read(py)?) => return Ok(()),
                Err(error) if error.is_instance(py, zero_return(py)?) => 0,
                Err(error) => return Err(error),
            };
            if buffer.is_kept() {
                return Err(kept("read"));
            }
            driven.peer_closed = n == 0;
            if n == 0 {
                return Ok(());
            }
            driven.opened += n;
            due = (n == room && self.has_opened(py)?) || (records > 1 && self.has_record(py)?);
        }
        Ok(())
    }

    fn has_record(&self, py: Python<'_>) -> PyResult<bool> {
        let unfinished = self
            .progress
            .with(py, |progress| progress.framing.unfinished());
        Ok(self.waiting(py)? > unfinished)
    }

    /// Whether a part of a record is open already.
    fn has_opened(&self, py: Python<'_>) -> PyResult<bool> {
        let pending = self.records.call_method0(py, intern!(py, "pending"))?;
        pending.bind(py).is_truthy()
    }

    /// Bytes that OpenSSL has not looked at.
    fn waiting(&self, py: Python<'_>) -> PyResult<usize> {
        let pending = self.incoming.getattr(py, intern!(py, "pending"))?;
        pending.extract(py)
    }

    fn seal<'py>(
        &self,
        py: Python<'py>,
        lender: &mut Lender,
        sealed: &mut Vec<Bound<'py, PyBytes>>,
    ) -> PyResult<()> {
        let take = |progress: &mut Progress| std::mem::take(&mut progress.unsealed);
        let mut plaintext = self.progress.with(py, take);
        let (len, mut done) = (plaintext.len(), 0);
        while done < len {
            let part = Part::to_read(done..len.min(done + FULL_RECORD));
            let outcome = lender.lend(py, &mut plaintext, part, |piece| {
                let records = self.records.bind(py);
                let n = records.call_method1(intern!(py, "write"), (piece,))?;
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
            self.collect(py, sealed)?;
        }
        if done < len {
            plaintext.drain(..done);
            self.progress.with(py, |it| it.unsealed = plaintext);
        }
        Ok(())
    }

    /// Takes what OpenSSL has for the peer.
    fn collect<'py>(&self, py: Python<'py>, sealed: &mut Vec<Bound<'py, PyBytes>>) -> PyResult<()> {
        let outgoing = self.outgoing.bind(py);
        if outgoing.getattr(intern!(py, "pending"))?.is_truthy()? {
            let piece = outgoing.call_method0(intern!(py, "read"))?;
            sealed.push(piece.cast_into()?);
        }
        Ok(())
    }

    /// Sends `close_notify` behind everything that was accepted, if that is due.
    fn say_goodbye(&self, py: Python<'_>) -> PyResult<bool> {
        let due = self.progress.with(py, |progress| {
            let due = progress.finishing && progress.unsealed.is_empty();
            progress.finishing &= !due;
            due
        });
        if !due {
            return Ok(false);
        }
        match self.object.call_method0(py, intern!(py, "unwrap")) {
            // It would like to wait for the peer's, which is not its turn.
            Err(error) if error.is_instance(py, ssl_error(py)?) => Ok(true),
            other => other.map(|_| true),
        }
    }
}

#[pymethods]
impl SslPump {
    #[new]
    #[pyo3(signature = (object, incoming, outgoing))]
    fn new(object: &Bound<'_, PyAny>, incoming: Py<PyAny>, outgoing: Py<PyAny>) -> PyResult<Self> {
        Ok(Self {
            object: object.clone().unbind(),
            records: inner(object)?.unbind(),
            incoming,
            outgoing,
            progress: Guarded::default(),
        })
    }

    /// The `ssl.SSLObject`.
    #[getter]
    fn ssl_object(&self, py: Python<'_>) -> Py<PyAny> {
        self.object.clone_ref(py)
    }

    /// Whether the handshake is done.
    #[getter]
    fn established(&self, py: Python<'_>) -> bool {
        self.is_established(py)
    }

    /// Is told what comes while it is not.
    #[pyo3(signature = (ciphertext, /))]
    #[allow(clippy::unused_self)]
    fn hear(&self, ciphertext: &Bound<'_, PyBytes>) {
        _ = ciphertext;
    }

    #[allow(clippy::needless_pass_by_value)]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        visit.call(&self.records)?;
        visit.call(&self.incoming)?;
        visit.call(&self.outgoing)
    }
}

/// The C object in an `ssl.SSLObject`; itself, if reading or writing was overridden.
fn inner<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = object.py();
    let (plain, class) = (CLASS.import(py, "ssl", "SSLObject")?, object.get_type());
    if !class.is(plain) {
        for name in [
            intern!(py, "read"),
            intern!(py, "write"),
            intern!(py, "pending"),
        ] {
            if !class.getattr(name)?.is(plain.getattr(name)?) {
                return Ok(object.clone());
            }
        }
    }
    let inner = object.getattr_opt(intern!(py, "_sslobj"))?;
    Ok(inner.unwrap_or_else(|| object.clone()))
}

/// False where OpenSSL has to wait for the peer.
fn unless_it_waits(py: Python<'_>, outcome: PyResult<()>) -> PyResult<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.is_instance(py, want_read(py)?) => Ok(false),
        Err(error) => Err(error),
    }
}

fn want_read(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "ssl", "SSLWantReadError")
}

fn zero_return(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "ssl", "SSLZeroReturnError")
}

fn ssl_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "ssl", "SSLError")
}

fn kept(method: &str) -> PyErr {
    PyBufferError::new_err(format!(
        "{method}() of the SSLObject kept the buffer that it was given"
    ))
}

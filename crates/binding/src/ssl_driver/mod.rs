//! TLS by an `ssl.SSLContext`: records go through OpenSSL by the `ssl` module's own objects.
//!
//! OpenSSL itself could be called with the `SSL*` that they hold, or with one made here. The first
//! lies in a struct private to `_ssl`, and the second would not have what was set up
//! on the context, callbacks above all. Their methods take buffers, so all that they cost is a call.
//!
//! All connections of an engine share one pair of `ssl.MemoryBIO`s. They are empty before and after
//! each call: what OpenSSL cannot use yet waits here, and what it has written is taken at once.

use mantou_engine::Outgoing;
use mantou_engine::tls::Framing;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::cell::Guarded;
use crate::ssl_channel::Channel;
use crate::work::Work;

mod records;

/// Ciphertext that OpenSSL gets at once: a `MemoryBIO` keeps memory for the most that it ever held,
/// and a record has hardly more.
const PIECE: usize = 17 * 1024;

/// Moves records through an `ssl.SSLObject` and its two `ssl.MemoryBIO`s.
#[pyclass(frozen, subclass, module = "mantou._core", name = "SSLPump")]
pub struct SslPump {
    object: Py<PyAny>,
    /// Who reads and writes for it: the C object inside, as long as nobody overrides that.
    records: Channel,
    incoming: Channel,
    outgoing: Channel,
    progress: Guarded<Progress>,
}

#[derive(Default)]
struct Progress {
    established: bool,
    /// Where records end in what the peer has sent since then.
    framing: Framing,
    /// Ciphertext that OpenSSL was not given: a part of a record, or what came before all else.
    unfed: Vec<u8>,
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
    /// The plaintext instead, where it was asked for as bytes and one record is all that came.
    pub record: Option<Bound<'py, PyBytes>>,
    pub sealed: Vec<Bound<'py, PyBytes>>,
    pub established: bool,
    /// Something was not sealed: first the peer has to send more.
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
        as_bytes: bool,
        outgoing: Outgoing,
    ) -> Driven<'py> {
        let (py, pump) = (this.py(), this.get());
        let mut driven = Driven::default();
        let outcome = pump.run(this, work, received, as_bytes, outgoing, &mut driven);
        if outcome.is_err() || driven.peer_closed {
            driven.error = outcome.and(pump.give_up(py, &mut driven.sealed)).err();
        }
        (driven.established, driven.stalled) = pump.progress.with(py, |progress| {
            (progress.established, !progress.unsealed.is_empty())
        });
        driven
    }

    fn run<'py>(
        &self,
        this: &Bound<'py, Self>,
        work: &mut Work,
        received: usize,
        as_bytes: bool,
        outgoing: Outgoing,
        driven: &mut Driven<'py>,
    ) -> PyResult<()> {
        let py = this.py();
        // Somebody may have had an `ssl_object` write behind our back.
        self.outgoing.take_all(py)?;
        if self.accept(py, outgoing) {
            self.seal(py, &mut work.lender, &mut driven.sealed)?;
        }
        let mut fed = 0;
        let shakes_hands = !self.is_established(py);
        if shakes_hands {
            if received > 0 {
                let ciphertext = PyBytes::new(py, work.ciphertext.filled(received));
                this.call_method1(intern!(py, "hear"), (ciphertext,))?;
            }
            fed = self.shake_hands(py, work, received)?;
        }
        if fed < received {
            self.open(py, work, fed..received, as_bytes, driven)?;
        }
        if received > 0 && self.progress.with(py, |it| !it.unsealed.is_empty()) {
            self.seal(py, &mut work.lender, &mut driven.sealed)?;
        }
        if self.say_goodbye(py)? || received > 0 || shakes_hands {
            // OpenSSL writes by itself then: handshakes, alerts, key updates.
            driven.sealed.extend(self.outgoing.take_all(py)?);
        }
        Ok(())
    }

    /// The session is over: takes its last words, and nothing that came is of use any more.
    fn give_up<'py>(&self, py: Python<'py>, sealed: &mut Vec<Bound<'py, PyBytes>>) -> PyResult<()> {
        sealed.extend(self.outgoing.take_all(py)?);
        self.incoming.take_all(py)?;
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

    /// Whether Python reads and writes.
    fn is_overridden(&self) -> bool {
        self.records.object.is(&self.object)
    }

    fn is_established(&self, py: Python<'_>) -> bool {
        self.progress.with(py, |progress| progress.established)
    }

    /// Goes on with the handshake. Returns how much of the ciphertext was for that.
    fn shake_hands(&self, py: Python<'_>, work: &mut Work, received: usize) -> PyResult<usize> {
        self.feed_unfed(py, &mut work.lender)?;
        let mut fed = 0;
        loop {
            let piece = fed..received.min(fed + PIECE);
            fed = piece.end;
            self.feed(py, &mut work.ciphertext, piece)?;
            // The public method: whoever has more to check overrides it.
            match self.object.call_method0(py, intern!(py, "do_handshake")) {
                Ok(_) => {
                    self.progress
                        .with(py, |progress| progress.established = true);
                    // OpenSSL has not read one byte of the record behind it.
                    let behind = self.incoming.take_all(py)?;
                    let behind = behind.map_or(0, |bytes| bytes.as_bytes().len());
                    return Ok(fed.saturating_sub(behind));
                }
                Err(error) if error.is_instance(py, want_read(py)?) => {}
                Err(error) => return Err(error),
            }
            if fed == received {
                return Ok(fed);
            }
        }
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
    #[pyo3(signature = (object, incoming, outgoing, initial))]
    fn new(
        object: &Bound<'_, PyAny>,
        incoming: Bound<'_, PyAny>,
        outgoing: Bound<'_, PyAny>,
        initial: Vec<u8>,
    ) -> PyResult<Self> {
        let progress = Progress {
            unfed: initial,
            ..Progress::default()
        };
        Ok(Self {
            object: object.clone().unbind(),
            records: Channel::new(inner(object)?)?,
            incoming: Channel::new(incoming)?,
            outgoing: Channel::new(outgoing)?,
            progress: Guarded::new(progress),
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
        self.records.traverse(&visit)?;
        self.incoming.traverse(&visit)?;
        self.outgoing.traverse(&visit)
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

fn want_read(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "ssl", "SSLWantReadError")
}

fn ssl_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "ssl", "SSLError")
}

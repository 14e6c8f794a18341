//! One TLS connection: ciphertext in, plaintext out, and back.

use std::mem;
use std::sync::Arc;

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::server::UnbufferedServerConnection;
use rustls::sign::CertifiedKey;
use rustls::unbuffered::EncryptError;
use rustls::{Error, ProtocolVersion};
use rustls_pki_types::ServerName;

use super::capture::{self, ExporterSecret};
use super::config::{Side, TlsConfig};
use super::connection::{Connection, Plaintext, Step, Writer};
use super::error::{TlsError, VerifyError, other_protocol, session_error};
use super::resume::{ResumeToken, Store};

/// The largest plaintext of a record.
const MAX_FRAGMENT: usize = 16_384;

/// Header, nonce, content type and tag: what a record adds at most.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;

const HEADER: usize = 5;

/// The alert of that name.
const HANDSHAKE_FAILURE: u8 = 40;

/// What is held of a message that is not complete. rustls takes none of more than 64 KiB; in tiny
/// records it would need several times that, which nobody does in good faith.
const MAX_PENDING: usize = 128 * 1024;

/// What a call of [`Session::feed`] led to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fed {
    /// The handshake ended with this call.
    pub established: bool,
    /// The peer sent `close_notify`: no more plaintext follows.
    pub peer_closed: bool,
    /// There is something for [`Session::take_output`].
    pub has_output: bool,
}

/// What [`Session::seal_into`] did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sealed {
    /// Plaintext that is in the records.
    pub taken: usize,
    /// Bytes of the records.
    pub written: usize,
}

pub struct Session {
    pub(super) connection: Connection,
    pub(super) config: Arc<TlsConfig>,
    /// The beginning of a record, or records of a handshake message that is not complete.
    pending: Vec<u8>,
    output: Vec<u8>,
    max_fragment: usize,
    pub(super) established: bool,
    pub(super) peer_closed: bool,
    closed: bool,
    pub(super) failed: Option<Box<TlsError>>,
    // Learnt during the handshake.
    pub(super) server_name: Option<Box<str>>,
    pub(super) identity: Option<Arc<CertifiedKey>>,
    pub(super) secret: Option<Box<ExporterSecret>>,
    pub(super) failure: Option<Box<VerifyError>>,
}

impl Session {
    /// A client's session. The name, a DNS name or an IP address, is what the server's certificate
    /// must be made for; IP addresses are not sent to the server. Without one, a foreign judge
    /// alone knows what to check.
    pub fn client(
        config: &Arc<TlsConfig>,
        server_name: Option<&str>,
        resume: Option<&ResumeToken>,
    ) -> Result<Self, TlsError> {
        let Side::Client {
            config: base,
            verifier,
        } = &config.side
        else {
            return Err(config_error(
                "server_side",
                "must be False: a client needs a client's options",
            ));
        };
        // An address is never sent.
        let name = ServerName::try_from(server_name.unwrap_or("0.0.0.0"))
            .map_err(|_| config_error("server_name", "must be a host name or an IP address"))?
            .to_owned();
        let store = match resume {
            Some(token) if token.0.name == name => token.0.clone(),
            _ => Arc::new(Store::new(
                name.clone(),
                verifier.clone(),
                base.client_auth_cert_resolver.clone(),
            )),
        };
        let mut own = (**base).clone();
        own.resumption = Resumption::store(store.clone());
        let connection = UnbufferedClientConnection::new(Arc::new(own), name)
            .map_err(|error| session_error(&error, None, verifier.trust()))?;
        let mut session = Self::new(config, Connection::Client(Box::new(connection), store));
        session.server_name = server_name.map(Box::from);
        // The first flight.
        session.run(&mut [], &mut Vec::new())?;
        Ok(session)
    }

    pub fn server(config: &Arc<TlsConfig>) -> Result<Self, TlsError> {
        let Side::Server { config: own, .. } = &config.side else {
            return Err(config_error(
                "server_side",
                "must be True: a server needs a server's options",
            ));
        };
        let connection = UnbufferedServerConnection::new(own.clone())
            .map_err(|error| session_error(&error, None, config.trust()))?;
        Ok(Self::new(config, Connection::Server(Box::new(connection))))
    }

    fn new(config: &Arc<TlsConfig>, connection: Connection) -> Self {
        Self {
            connection,
            config: config.clone(),
            pending: Vec::new(),
            output: Vec::new(),
            max_fragment: MAX_FRAGMENT,
            established: false,
            peer_closed: false,
            closed: false,
            failed: None,
            server_name: None,
            identity: None,
            secret: None,
            failure: None,
        }
    }

    // Bytes

    /// Takes all of `ciphertext`, which is overwritten, and puts what it says into `plain`. What was
    /// decrypted before an error is there as well. After an error the session is dead; an
    /// alert may wait in the output.
    pub fn feed(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut dyn Plaintext,
    ) -> Result<Fed, TlsError> {
        if let Some(error) = &self.failed {
            return Err((**error).clone());
        }
        let was_established = self.established;
        let mut input = ciphertext;
        while !self.pending.is_empty() && !input.is_empty() && !self.peer_closed {
            let (head, rest) = input.split_at_mut(self.missing().min(input.len()));
            self.pending.extend_from_slice(head);
            input = rest;
            let mut pending = mem::take(&mut self.pending);
            let used = self.run(&mut pending, plain)?;
            if used < pending.len() {
                pending.drain(..used);
                self.pending = pending;
            }
        }
        if !input.is_empty() && !self.peer_closed {
            let used = self.run(input, plain)?;
            self.pending = input[used..].to_vec();
        }
        if self.peer_closed {
            self.pending = Vec::new();
        }
        if self.pending.len() > MAX_PENDING {
            let error = TlsError::Protocol("excessive message size".into());
            self.failed = Some(Box::new(error.clone()));
            self.pending = Vec::new();
            return Err(error);
        }
        Ok(Fed {
            established: self.established && !was_established,
            peer_closed: self.peer_closed,
            has_output: self.has_output(),
        })
    }

    /// How many bytes the record at the front of `pending` lacks. Where it lacks none, it is part
    /// of a longer message, and everything there is may belong to it.
    fn missing(&self) -> usize {
        let length = match self.pending[..] {
            [_, _, _, high, low, ..] => HEADER + usize::from(u16::from_be_bytes([high, low])),
            _ => HEADER,
        };
        match length.saturating_sub(self.pending.len()) {
            0 => usize::MAX,
            missing => missing,
        }
    }

    /// Processes what is complete in `input` and returns how much that was.
    fn run(&mut self, input: &mut [u8], plain: &mut dyn Plaintext) -> Result<usize, TlsError> {
        if !self.established {
            // Nothing of another session is taken for this one's.
            capture::take();
        }
        let mut used = 0;
        let ended = loop {
            let (discard, step) =
                self.connection
                    .process(&mut input[used..], plain, &mut self.output);
            used += discard;
            match step {
                // The usual case ends here: rustls has nothing left to look at.
                Ok(Step::Data)
                    if used == input.len()
                        && self.established
                        && !self.connection.state().wants_write() =>
                {
                    return Ok(used);
                }
                Ok(Step::Again | Step::Data) => {}
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::Idle) => break Ok(used),
                Err(error) => break Err(error),
            }
        };
        if !self.established {
            self.learn();
        }
        ended.map_err(|error| self.fail(&error, &input[used..]))
    }

    /// Picks up what the handshake brought to light.
    fn learn(&mut self) {
        let captured = capture::take();
        self.failure = captured.failure.map(Box::new).or(self.failure.take());
        self.secret = captured.secret.map(Box::new).or(self.secret.take());
        self.identity = captured.identity.or(self.identity.take());
        if self.config.is_server() {
            self.server_name = captured.server_name.or(self.server_name.take());
        }
        if self.connection.state().is_handshaking() {
            return;
        }
        self.established = true;
        let chain = self
            .connection
            .state()
            .peer_certificates()
            .unwrap_or_default();
        let resumed = self.is_resumed();
        let failure = match (&self.config.side, &self.connection) {
            // Who is resumed was verified then. If that was not asked for, nobody knows how it
            // went.
            (Side::Client { verifier, .. }, Connection::Client(_, store))
                if resumed && !verifier.is_strict() =>
            {
                verifier.check(chain, &store.name)
            }
            (
                Side::Server {
                    verifier: Some(verifier),
                    ..
                },
                _,
            ) if chain.is_empty() || !verifier.is_strict() => {
                if chain.is_empty() {
                    Some(verifier.missing())
                } else if resumed {
                    verifier.check(chain)
                } else {
                    None
                }
            }
            _ => None,
        };
        if failure.is_some() {
            self.failure = failure.map(Box::new);
        }
    }

    fn fail(&mut self, error: &Error, input: &[u8]) -> TlsError {
        // The alert.
        self.connection.drain(&mut self.output);
        if let (Error::NoCertificatesPresented, Some(ProtocolVersion::TLSv1_2), Some(alert)) = (
            error,
            self.connection.state().protocol_version(),
            self.output.last_mut(),
        ) {
            // rustls says certificate_required, which TLS 1.3 has brought.
            *alert = HANDSHAKE_FAILURE;
        }
        let mut error = session_error(error, self.failure.as_deref().cloned(), self.config.trust());
        if let (false, TlsError::Protocol(reason), Some(other)) =
            (self.established, &mut error, other_protocol(input))
        {
            other.clone_into(reason);
        }
        self.failed = Some(Box::new(error.clone()));
        self.pending = Vec::new();
        error
    }

    /// The peer finished the connection below: whether TLS was finished before.
    pub fn eof(&mut self) -> Result<(), TlsError> {
        match &self.failed {
            Some(error) => Err((**error).clone()),
            None if self.peer_closed => Ok(()),
            None => Err(TlsError::Truncated),
        }
    }

    /// Encrypts as much of `plaintext` as has room in `out`, which begins with what the session
    /// itself had to send. Nothing is taken before the handshake is done.
    pub fn seal_into(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<Sealed, TlsError> {
        if let Some(error) = &self.failed {
            return Err((**error).clone());
        }
        let mut done = Sealed::default();
        loop {
            if !self.output.is_empty() {
                let n = self.output.len().min(out.len() - done.written);
                out[done.written..done.written + n].copy_from_slice(&self.output[..n]);
                self.output.drain(..n);
                done.written += n;
                if !self.output.is_empty() {
                    return Ok(done);
                }
                self.output = Vec::new();
            }
            if !self.established || self.closed {
                return Ok(done);
            }
            let room = out.len() - done.written;
            let left = &plaintext[done.taken..];
            let piece = self.fitting(room).min(left.len());
            if piece == 0 {
                return Ok(done);
            }
            if let Some(written) = self.encrypt(&left[..piece], &mut out[done.written..])? {
                done.written += written;
                done.taken += piece;
            }
        }
    }

    /// How much plaintext one call of rustls can put into `room` bytes.
    fn fitting(&self, room: usize) -> usize {
        const RECORD: usize = MAX_FRAGMENT + RECORD_OVERHEAD;
        if self.max_fragment < MAX_FRAGMENT {
            return room.saturating_sub(RECORD_OVERHEAD).min(self.max_fragment);
        }
        // Whole records, then what the last one has room for.
        room / RECORD * MAX_FRAGMENT + (room % RECORD).saturating_sub(RECORD_OVERHEAD)
    }

    /// Appends records with all of `plaintext` to `out`; with none of it before the handshake is
    /// done, and after [`Session::close_notify`]. Returns how much was taken.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<usize, TlsError> {
        let mut taken = 0;
        loop {
            let left = plaintext.len() - taken;
            let records = left.div_ceil(self.max_fragment);
            let start = out.len();
            let room = self.output.len() + left + records * RECORD_OVERHEAD;
            out.resize(start + room, 0);
            let sealed = self.seal_into(&plaintext[taken..], &mut out[start..]);
            out.truncate(start + sealed.as_ref().map_or(0, |sealed| sealed.written));
            taken += sealed?.taken;
            // Once more if a key update came in between.
            if taken == plaintext.len() || !self.established || self.closed {
                return Ok(taken);
            }
        }
    }

    /// Encrypts all of it; `None` if there is something to say before, a key update, which then
    /// is in the output.
    fn encrypt(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<Option<usize>, TlsError> {
        if self.connection.drain(&mut self.output) {
            return Ok(None);
        }
        let result = self.write_traffic(|mut writer| writer.encrypt(plaintext, out))?;
        match result {
            Some(Ok(written)) => Ok(Some(written)),
            Some(Err(EncryptError::InsufficientSize(_))) => {
                self.connection.drain(&mut self.output);
                Ok(None)
            }
            Some(Err(EncryptError::EncryptExhausted)) => {
                let error = TlsError::Protocol("the traffic keys are exhausted".into());
                self.failed = Some(Box::new(error.clone()));
                Err(error)
            }
            None => Err(TlsError::Protocol("the session cannot send".into())),
        }
    }

    fn write_traffic<R>(
        &mut self,
        send: impl FnOnce(Writer<'_>) -> R,
    ) -> Result<Option<R>, TlsError> {
        let result = self.connection.write(&mut self.pending, send);
        result.map_err(|error| self.fail(&error, &[]))
    }

    /// There is something for [`Session::take_output`].
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// It is used next.
    #[inline]
    pub fn prefetch(&self) {
        self.connection.prefetch();
    }

    /// Appends what the session itself has to send, alerts after errors included.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        if out.is_empty() {
            *out = mem::take(&mut self.output);
        } else {
            out.append(&mut mem::take(&mut self.output));
        }
    }

    /// Ends our side: appends the output and `close_notify`. Nothing can be sealed any more;
    /// reading goes on. Before the handshake is done there is nothing to say.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.connection.drain(&mut self.output);
        self.take_output(out);
        if !self.established || self.closed || self.failed.is_some() {
            return;
        }
        self.closed = true;
        // It does not get there if there is a key update to announce.
        let start = out.len();
        out.resize(start + HEADER + RECORD_OVERHEAD, 0);
        let written = self.write_traffic(|mut writer| writer.close_notify(&mut out[start..]));
        if let Ok(Some(Ok(written))) = written {
            out.truncate(start + written);
        } else {
            out.truncate(start);
            self.connection.drain(&mut self.output);
            self.take_output(out);
        }
    }

    /// Asks for new keys in both directions; with TLS 1.2 there is no such thing.
    pub fn update_keys(&mut self) -> Result<(), TlsError> {
        let result = self.write_traffic(
            #[expect(clippy::redundant_closure_for_method_calls, reason = "lifetimes")]
            |writer| writer.update_keys(),
        )?;
        self.connection.drain(&mut self.output);
        match result {
            Some(Ok(())) => Ok(()),
            _ => Err(TlsError::Protocol("no key update is possible".into())),
        }
    }

    /// The largest plaintext of one record; `false` if it is out of range.
    pub fn set_max_fragment(&mut self, size: usize) -> bool {
        let valid = (1..=MAX_FRAGMENT).contains(&size);
        if valid {
            self.max_fragment = size;
        }
        valid
    }
}

fn config_error(option: &'static str, reason: &str) -> TlsError {
    TlsError::Config {
        option,
        reason: reason.to_owned(),
    }
}

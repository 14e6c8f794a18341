//! One TLS connection: ciphertext in, plaintext out, and back.

use std::mem;
use std::sync::Arc;

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::server::UnbufferedServerConnection;
use rustls::sign::CertifiedKey;
use rustls::{Error, ProtocolVersion};
use rustls_pki_types::ServerName;

use super::capture::{self, ExporterSecret};
use super::config::{Side, TlsConfig};
use super::connection::{Connection, Plaintext, Step};
use super::error::{TlsError, VerifyError, other_protocol, session_error};
use super::resume::{ResumeToken, Store};

mod sealing;

pub use sealing::Sealed;

/// The largest plaintext of a record.
const MAX_FRAGMENT: usize = 16_384;

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
            return Err(TlsError::config(
                "server_side",
                "must be False: a client needs a client's options",
            ));
        };
        // An address is never sent.
        let name = ServerName::try_from(server_name.unwrap_or("0.0.0.0"))
            .map_err(|_| TlsError::config("server_name", "must be a host name or an IP address"))?
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
            return Err(TlsError::config(
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
}

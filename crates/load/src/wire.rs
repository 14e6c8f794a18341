//! A connection, plain or TLS 1.3, that never blocks.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use socket2::{Domain, Protocol, Socket, Type};

const CIPHERTEXT: usize = 128 * 1024;
const PLAINTEXT: usize = 256 * 1024;

/// Where and how to connect.
#[derive(Clone)]
pub struct Target {
    pub port: u16,
    pub tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// A socket to the server; with `blocking` connected when this returns.
    fn socket(&self, blocking: bool) -> io::Result<TcpStream> {
        // Every address of 127/8 is ours: with several of them the ports in TIME_WAIT last longer.
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let source = Ipv4Addr::new(127, 0, 1, NEXT.fetch_add(1, Ordering::Relaxed) % 64 + 1);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        let one = 1i32;
        // SAFETY: the option's value is the integer that is passed, by its address and size.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const one).cast(),
                4,
            )
        };
        socket.bind(&SocketAddr::V4(SocketAddrV4::new(source, 0)).into())?;
        socket.set_nonblocking(!blocking)?;
        let server = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port));
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        Ok(socket.into())
    }

    fn session(&self) -> io::Result<Option<Box<ClientConnection>>> {
        let Some(config) = &self.tls else {
            return Ok(None);
        };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(PLAINTEXT));
        Ok(Some(Box::new(session)))
    }

    /// A connection that is ready for messages.
    pub fn connect(&self) -> io::Result<Wire> {
        let mut stream = self.socket(true)?;
        let mut session = self.session()?;
        if let Some(session) = &mut session {
            while session.is_handshaking() {
                session.complete_io(&mut stream)?;
            }
        }
        stream.set_nonblocking(true)?;
        Ok(Wire { stream, session })
    }

    /// A connection that is about to be made: writable when it is.
    pub fn begin(&self) -> io::Result<Wire> {
        Ok(Wire {
            stream: self.socket(false)?,
            session: self.session()?,
        })
    }
}

/// Memory for one recv, shared by all connections.
pub struct Inbox {
    cipher: Vec<u8>,
    plain: Vec<u8>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            cipher: vec![0; CIPHERTEXT],
            plain: vec![0; PLAINTEXT],
        }
    }
}

pub enum Got<'a> {
    Nothing,
    Bytes(&'a [u8]),
    End,
}

pub struct Wire {
    stream: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Wire {
    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Takes what fits now and says how much that was.
    pub fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.session.is_none() {
            return Ok(possible(self.stream.write(data))?.unwrap_or(0));
        }
        if !self.flush()? {
            return Ok(0);
        }
        let accepted = match &mut self.session {
            Some(session) => session.writer().write(data)?,
            None => 0,
        };
        self.flush()?;
        Ok(accepted)
    }

    /// Whether everything that was accepted is in the kernel now.
    pub fn flush(&mut self) -> io::Result<bool> {
        if let Some(session) = &mut self.session {
            while session.wants_write() {
                if possible(session.write_tls(&mut self.stream))?.is_none() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// What one recv brings.
    pub fn receive<'a>(&mut self, inbox: &'a mut Inbox) -> io::Result<Got<'a>> {
        let Some(session) = &mut self.session else {
            return Ok(match possible(self.stream.read(&mut inbox.plain))? {
                None => Got::Nothing,
                Some(0) => Got::End,
                Some(size) => Got::Bytes(&inbox.plain[..size]),
            });
        };
        let size = match possible(self.stream.read(&mut inbox.cipher))? {
            None => return Ok(Got::Nothing),
            Some(0) => return Ok(Got::End),
            Some(size) => size,
        };
        let (mut input, mut filled) = (&inbox.cipher[..size], 0);
        while !input.is_empty() {
            session.read_tls(&mut input)?;
            session.process_new_packets().map_err(io::Error::other)?;
            while let Some(n @ 1..) = possible(session.reader().read(&mut inbox.plain[filled..]))? {
                filled += n;
            }
        }
        self.flush()?;
        Ok(if filled == 0 {
            Got::Nothing
        } else {
            Got::Bytes(&inbox.plain[..filled])
        })
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            session.send_close_notify();
        }
        self.flush()?;
        self.stream.shutdown(Shutdown::Write)
    }

    pub fn resumed(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.handshake_kind() == Some(HandshakeKind::Resumed))
    }
}

/// `None` instead of `WouldBlock`.
fn possible(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(size) => Ok(Some(size)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// TLS 1.3 with AES-256-GCM and X25519, which every peer has, against this very certificate.
pub fn tls_config(
    certificate: &str,
    resume: bool,
) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let provider = Arc::new(provider);
    let verifier = Pinned {
        certificate: CertificateDer::from_pem_file(certificate)?,
        provider: provider.clone(),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = if resume {
        Resumption::in_memory_sessions(256)
    } else {
        Resumption::disabled()
    };
    Ok(config)
}

/// Accepts one certificate and does not check its signatures: the load must not be the bottleneck.
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity != self.certificate {
            return Err(rustls::Error::General("another certificate".into()));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

//! TLS sessions: bytes in, bytes out, no sockets.
//!
//! A [`TlsConfig`] is made once and shared by its sessions. A [`Session`] is fed what the peer
//! sent and gives plaintext; it seals plaintext into records; what it has to say itself
//! (handshake, alerts, tickets, key updates) waits in [`Session::take_output`].

mod capture;
mod chain;
mod config;
mod connection;
mod cover;
mod der;
mod error;
mod export;
mod facts;
mod foreign;
mod framing;
mod identities;
mod judge;
mod names;
mod pem;
mod resume;
mod session;
mod trust;
mod verify;

pub use config::{ClientAuth, ClientSpec, Common, ServerSpec, TlsConfig, Version};
pub use connection::Plaintext;
pub use cover::{covers, is_server_name};
pub use der::key_algorithm;
pub use error::{TlsError, VerifyError, VerifyKind};
pub use export::server_end_point;
pub use facts::{Authorization, Binding, Cipher};
pub use foreign::{ForeignJudge, Refusal};
pub use framing::{Framing, Passed};
pub use identities::Identity;
pub use pem::{KeyBlock, PemError, certificates, private_key, revocation_lists, trusted};
pub use resume::ResumeToken;
pub use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
pub use session::{Fed, Sealed, Session};
pub use trust::{Trust, system_trust_size};

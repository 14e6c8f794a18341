//! Configurations, checked and ready for sessions.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::digest;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion, version};
use rustls_pki_types::CertificateRevocationListDer;

use super::capture::{self, Log};
use super::error::TlsError;
use super::identities::{Identities, Identity};
use super::names;
use super::trust::{Anchors, Trust};
use super::verify::{ClientVerifier, ServerVerifier};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    Tls12,
    Tls13,
}

impl Version {
    pub fn parse(option: &'static str, name: &str) -> Result<Self, TlsError> {
        match name {
            "TLSv1.2" => Ok(Self::Tls12),
            "TLSv1.3" => Ok(Self::Tls13),
            "SSLv3" | "TLSv1" | "TLSv1.0" | "TLSv1.1" => Err(TlsError::config(
                option,
                format!("got {name}, which the engine cannot do: pass an ssl.SSLContext to use it"),
            )),
            _ => Err(TlsError::config(
                option,
                format!("must be \"TLSv1.2\" or \"TLSv1.3\", got {name:?}"),
            )),
        }
    }
}

/// What clients and servers have in common.
#[derive(Debug)]
pub struct Common {
    pub trust: Trust,
    /// The first that the peer can use is shown to it.
    pub identities: Vec<Identity>,
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    pub alpn: Vec<Vec<u8>>,
    pub min_version: Version,
    pub max_version: Version,
    /// OpenSSL's names.
    pub ciphers: Option<String>,
    pub key_log: Option<PathBuf>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            trust: Trust::System,
            identities: Vec::new(),
            crls: Vec::new(),
            alpn: Vec::new(),
            min_version: Version::Tls12,
            max_version: Version::Tls13,
            ciphers: None,
            key_log: None,
        }
    }
}

#[derive(Debug)]
pub struct ClientSpec {
    pub common: Common,
    /// A server that fails verification is refused.
    pub verify: bool,
}

impl Default for ClientSpec {
    fn default() -> Self {
        Self {
            common: Common::default(),
            verify: true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ClientAuth {
    #[default]
    None,
    /// Asked for; whoever shows none, or a bad one, is let in.
    Request,
    /// Asked for; whoever shows none is let in, whoever shows a bad one is refused.
    Verify,
    Require,
}

#[derive(Default, Debug)]
pub struct ServerSpec {
    pub common: Common,
    pub client_auth: ClientAuth,
    /// Of the ciphers that both know, ours come first.
    pub prefer_own_ciphers: bool,
}

/// A configuration; shared by its sessions.
#[derive(Debug)]
pub struct TlsConfig {
    pub(super) side: Side,
}

#[derive(Debug)]
pub(super) enum Side {
    Client {
        config: Box<ClientConfig>,
        verifier: Arc<ServerVerifier>,
    },
    Server {
        config: Arc<ServerConfig>,
        verifier: Option<Arc<ClientVerifier>>,
    },
}

impl TlsConfig {
    pub fn client(spec: ClientSpec) -> Result<Arc<Self>, TlsError> {
        let ClientSpec { common, verify } = spec;
        let provider = crypto(common.ciphers.as_deref())?;
        let anchors = Anchors::new(&common.trust)?;
        let mark = mark(&common, &anchors, verify);
        let (verifier, credentials) = if let Some(same) = remembered(&mark) {
            same
        } else {
            let credentials = Identities::new(common.identities, &provider)?;
            let verifier = ServerVerifier::new(anchors, common.crls, verify, provider.clone())?;
            remember(mark, Arc::new(verifier), Arc::new(credentials))
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(common.min_version, common.max_version)?)
            .map_err(|error| TlsError::config("ciphers", format!("is not usable: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_cert_resolver(credentials);
        config.alpn_protocols = checked_alpn(common.alpn)?;
        config.key_log = Arc::new(Log::new(common.key_log.as_deref())?);
        config.resumption = Resumption::disabled();
        Ok(Arc::new(Self {
            side: Side::Client {
                config: Box::new(config),
                verifier,
            },
        }))
    }

    pub fn server(spec: ServerSpec) -> Result<Arc<Self>, TlsError> {
        let ServerSpec {
            common,
            client_auth,
            prefer_own_ciphers,
        } = spec;
        let provider = crypto(common.ciphers.as_deref())?;
        if common.identities.is_empty() {
            return Err(TlsError::config(
                "cert",
                "is missing: a server needs a certificate and its key",
            ));
        }
        // What was given is checked, whether it will be used or not.
        let given = matches!(common.trust, Trust::Certificates(_)) || !common.crls.is_empty();
        let verifier = if client_auth != ClientAuth::None || given {
            let mandatory = client_auth == ClientAuth::Require;
            let strict = mandatory || client_auth == ClientAuth::Verify;
            let anchors = Anchors::new(&common.trust)?;
            let made =
                ClientVerifier::new(anchors, common.crls, strict, mandatory, provider.clone())?;
            Some(Arc::new(made)).filter(|_| client_auth != ClientAuth::None)
        } else {
            None
        };
        let identities = Identities::new(common.identities, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(common.min_version, common.max_version)?)
            .map_err(|error| TlsError::config("ciphers", format!("is not usable: {error}")))?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_client_cert_verifier(WebPkiClientVerifier::no_client_auth()),
        };
        let mut config = builder.with_cert_resolver(Arc::new(identities));
        config.alpn_protocols = checked_alpn(common.alpn)?;
        config.key_log = Arc::new(Log::new(common.key_log.as_deref())?);
        config.ignore_client_order = prefer_own_ciphers;
        // Tickets keep the sessions at the clients, so nothing is held here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = provider::Ticketer::new()
            .map_err(|error| TlsError::Protocol(format!("no session tickets: {error}")))?;
        Ok(Arc::new(Self {
            side: Side::Server {
                config: Arc::new(config),
                verifier,
            },
        }))
    }

    pub fn is_server(&self) -> bool {
        matches!(self.side, Side::Server { .. })
    }

    /// The trust store that peers are checked against, in words.
    pub fn trust(&self) -> &str {
        match &self.side {
            Side::Client { verifier, .. } => verifier.trust(),
            Side::Server {
                verifier: Some(verifier),
                ..
            } => verifier.trust(),
            Side::Server { verifier: None, .. } => "nothing: no certificate is asked for",
        }
    }
}

fn crypto(ciphers: Option<&str>) -> Result<Arc<CryptoProvider>, TlsError> {
    let all = capture::suites();
    let cipher_suites = match ciphers {
        None => all.to_vec(),
        Some(text) => names::cipher_suites(text)?
            .into_iter()
            .filter_map(|name| all.iter().find(|suite| suite.suite() == name).copied())
            .collect(),
    };
    Ok(Arc::new(CryptoProvider {
        cipher_suites,
        ..provider::default_provider()
    }))
}

fn versions(
    min: Version,
    max: Version,
) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    if min > max {
        return Err(TlsError::config("min_version", "is above max_version"));
    }
    let all = [
        (Version::Tls13, &version::TLS13),
        (Version::Tls12, &version::TLS12),
    ];
    let enabled = all
        .into_iter()
        .filter(|known| (min..=max).contains(&known.0));
    Ok(enabled.map(|known| known.1).collect())
}

/// Half of what extensions can hold together.
const LONGEST_ALPN: usize = 32_768;

fn checked_alpn(protocols: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, TlsError> {
    if protocols
        .iter()
        .any(|name| name.is_empty() || name.len() > 255)
    {
        let reason = "must be names of 1 to 255 bytes";
        return Err(TlsError::config("alpn_protocols", reason));
    }
    // They are part of the extensions, and the length of all these has 16 bits.
    let len: usize = protocols.iter().map(|name| name.len() + 1).sum();
    if len > LONGEST_ALPN {
        let reason = format!("takes {len} bytes, more than {LONGEST_ALPN}");
        return Err(TlsError::config("alpn_protocols", reason));
    }
    Ok(protocols)
}

// A session is resumed only under the verifier and the credentials it was made with. Equal
// configurations therefore share them, as long as somebody holds them.

type Mark = digest::Digest;
type Shared = (Arc<ServerVerifier>, Arc<dyn ResolvesClientCert>);
type WeakShared = (Mark, Weak<ServerVerifier>, Weak<dyn ResolvesClientCert>);

static SHARED: Mutex<Vec<WeakShared>> = Mutex::new(Vec::new());

fn mark(common: &Common, anchors: &Anchors, verify: bool) -> Mark {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut add = |bytes: &[u8]| {
        context.update(&bytes.len().to_be_bytes());
        context.update(bytes);
    };
    add(&[u8::from(verify)]);
    add(common.ciphers.as_deref().unwrap_or_default().as_bytes());
    match &common.trust {
        Trust::System => {
            // Read once and kept: the same store is at the same place.
            add(&Arc::as_ptr(&anchors.roots).addr().to_be_bytes());
        }
        Trust::Certificates(certificates) => {
            add(&certificates.len().to_be_bytes());
            for der in certificates {
                add(der);
            }
        }
        Trust::Foreign(judge) => add(&Arc::as_ptr(judge).addr().to_be_bytes()),
    }
    add(&common.crls.len().to_be_bytes());
    for der in &common.crls {
        add(der);
    }
    for identity in &common.identities {
        add(identity.key.secret_der());
        add(&identity.chain.len().to_be_bytes());
        for der in &identity.chain {
            add(der);
        }
    }
    context.finish()
}

fn remembered(mark: &Mark) -> Option<Shared> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.retain(|entry| entry.1.strong_count() > 0 && entry.2.strong_count() > 0);
    let same = |entry: &&WeakShared| entry.0.as_ref() == mark.as_ref();
    let entry = shared.iter().find(same)?;
    Some((entry.1.upgrade()?, entry.2.upgrade()?))
}

fn remember(
    mark: Mark,
    verifier: Arc<ServerVerifier>,
    credentials: Arc<dyn ResolvesClientCert>,
) -> Shared {
    let entry = (
        mark,
        Arc::downgrade(&verifier),
        Arc::downgrade(&credentials),
    );
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.push(entry);
    (verifier, credentials)
}

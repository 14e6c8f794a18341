//! What can go wrong with TLS, in the words that OpenSSL's users know.

use std::fmt;
use std::net::IpAddr;

use rustls::{
    AlertDescription, CertRevocationListError, CertificateError, Error, InvalidMessage,
    PeerIncompatible, PeerMisbehaved,
};
use rustls_pki_types::ServerName;

/// Why a session failed, or why a configuration is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsError {
    /// The peer's certificate is not accepted.
    Verification(VerifyError),
    /// The peer gave up and said why, for example "tlsv1 alert unknown ca".
    Alert { description: String, code: u8 },
    /// What the peer sent is not acceptable TLS.
    Protocol(String),
    /// The connection ended without `close_notify`.
    Truncated,
    /// The client offers protocols and none of them is ours.
    NoApplicationProtocol,
    /// A driver outside the engine failed; it knows why.
    Foreign,
    /// An option cannot be used.
    Config {
        option: &'static str,
        reason: String,
    },
}

impl TlsError {
    pub fn config(option: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Config { option, reason }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verification(error) => write!(f, "certificate verify failed: {error}"),
            Self::Alert { description, .. } => f.write_str(description),
            Self::Protocol(reason) => f.write_str(reason),
            Self::Truncated => f.write_str("EOF occurred in violation of protocol"),
            Self::NoApplicationProtocol => f.write_str("no application protocol"),
            Self::Foreign => f.write_str("the TLS driver failed"),
            Self::Config { option, reason } => write!(f, "option '{option}' {reason}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// What is wrong with the peer's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VerifyKind {
    Expired,
    NotYetValid,
    SelfSigned,
    SelfSignedInChain,
    UnknownIssuer,
    HostnameMismatch,
    IpAddressMismatch,
    Revoked,
    NoRevocationList,
    RevocationListExpired,
    BadRevocationList,
    BadSignature,
    WeakOrUnknownAlgorithm,
    WrongPurpose,
    /// An authority above it must not vouch for its names.
    NotPermitted,
    PathTooLong,
    /// More authorities than are followed.
    ChainTooLong,
    /// What is in an authority's place is none.
    InvalidCa,
    BadConstraint,
    BadName,
    BadExtension,
    /// There are more ways to a trusted authority than are tried.
    TooManyPaths,
    UnknownCriticalExtension,
    /// It is of X.509 version 1 or 2 and not trusted as it stands.
    OldVersion,
    /// Nothing was presented where a certificate is needed.
    Missing,
    Malformed,
    Other,
}

impl VerifyKind {
    /// OpenSSL's `X509_V_ERR_*` number.
    pub fn code(self) -> i32 {
        match self {
            Self::NoRevocationList => 3,
            Self::BadSignature => 7,
            Self::BadRevocationList => 8,
            Self::NotYetValid => 9,
            Self::Expired => 10,
            Self::RevocationListExpired => 12,
            Self::SelfSigned => 18,
            Self::SelfSignedInChain => 19,
            Self::UnknownIssuer => 20,
            Self::ChainTooLong => 22,
            Self::Revoked => 23,
            Self::PathTooLong => 25,
            Self::WrongPurpose => 26,
            Self::UnknownCriticalExtension => 34,
            Self::NotPermitted => 47,
            Self::BadConstraint => 52,
            Self::BadName => 53,
            Self::HostnameMismatch => 62,
            Self::IpAddressMismatch => 64,
            Self::WeakOrUnknownAlgorithm => 76,
            Self::InvalidCa => 79,
            Self::OldVersion
            | Self::Missing
            | Self::Malformed
            | Self::BadExtension
            | Self::TooManyPaths
            | Self::Other => 1,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Expired => "certificate has expired",
            Self::NotYetValid => "certificate is not yet valid",
            Self::SelfSigned => "self-signed certificate",
            Self::SelfSignedInChain => "self-signed certificate in certificate chain",
            Self::UnknownIssuer => "unable to get local issuer certificate",
            Self::HostnameMismatch => "hostname mismatch",
            Self::IpAddressMismatch => "IP address mismatch",
            Self::Revoked => "certificate revoked",
            Self::NoRevocationList => "unable to get certificate CRL",
            Self::RevocationListExpired => "CRL has expired",
            Self::BadRevocationList => "CRL signature failure",
            Self::BadSignature => "certificate signature failure",
            Self::WeakOrUnknownAlgorithm => "unsupported signature algorithm",
            Self::NotPermitted => "permitted subtree violation",
            Self::PathTooLong => "path length constraint exceeded",
            Self::ChainTooLong => "certificate chain too long",
            Self::InvalidCa => "invalid CA certificate",
            Self::BadConstraint => "unsupported or invalid name constraint syntax",
            Self::BadName => "unsupported or invalid name syntax",
            Self::BadExtension => "an extension is malformed, or there twice",
            Self::TooManyPaths => "certificate chain branches too often",
            Self::WrongPurpose => "unsuitable certificate purpose",
            Self::UnknownCriticalExtension => "unhandled critical extension",
            Self::OldVersion => "certificate is of X.509 version 1, which is not verified",
            Self::Missing => "peer did not return a certificate",
            Self::Malformed => "certificate is not correctly encoded",
            Self::Other => "unspecified certificate verification error",
        }
    }
}

/// A verification that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyError {
    pub kind: VerifyKind,
    /// OpenSSL's words.
    pub message: String,
    /// The trust store it was checked against.
    pub trust: String,
}

impl VerifyError {
    pub fn new(kind: VerifyKind, trust: &str) -> Self {
        Self {
            kind,
            message: kind.words().to_owned(),
            trust: trust.to_owned(),
        }
    }

    pub fn mismatch(name: &ServerName<'_>, trust: &str) -> Self {
        let (kind, what, name) = match name {
            ServerName::IpAddress(address) => (
                VerifyKind::IpAddressMismatch,
                "IP address",
                IpAddr::from(*address).to_string(),
            ),
            name => (
                VerifyKind::HostnameMismatch,
                "Hostname",
                name.to_str().into_owned(),
            ),
        };
        Self {
            kind,
            message: format!("{what} mismatch, certificate is not valid for '{name}'."),
            trust: trust.to_owned(),
        }
    }

    pub fn code(&self) -> i32 {
        self.kind.code()
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (checked against {})", self.message, self.trust)
    }
}

/// The kind of a failure that needs no look at the certificate; `UnknownIssuer` may turn out to
/// be one of the two self-signed kinds.
pub fn verify_kind(error: &Error) -> VerifyKind {
    let error = match error {
        Error::InvalidCertificate(error) => error,
        Error::InvalidCertRevocationList(error) => {
            return match error {
                CertRevocationListError::IssuerInvalidForCrl => VerifyKind::NoRevocationList,
                _ => VerifyKind::BadRevocationList,
            };
        }
        Error::NoCertificatesPresented => return VerifyKind::Missing,
        _ => return VerifyKind::Other,
    };
    match error {
        CertificateError::BadEncoding => VerifyKind::Malformed,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => VerifyKind::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            VerifyKind::NotYetValid
        }
        CertificateError::Revoked => VerifyKind::Revoked,
        CertificateError::UnknownIssuer => VerifyKind::UnknownIssuer,
        CertificateError::UnknownRevocationStatus => VerifyKind::NoRevocationList,
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => {
            VerifyKind::RevocationListExpired
        }
        CertificateError::BadSignature => VerifyKind::BadSignature,
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            VerifyKind::WeakOrUnknownAlgorithm
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            VerifyKind::HostnameMismatch
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            VerifyKind::WrongPurpose
        }
        // What webpki, which has no other way here, calls it.
        CertificateError::Other(error) => match error.to_string().as_str() {
            "NameConstraintViolation" => VerifyKind::NotPermitted,
            "PathLenConstraintViolated" => VerifyKind::PathTooLong,
            "UnsupportedCriticalExtension" => VerifyKind::UnknownCriticalExtension,
            "MaximumPathDepthExceeded" => VerifyKind::ChainTooLong,
            "EndEntityUsedAsCa" => VerifyKind::InvalidCa,
            "InvalidNetworkMaskConstraint" | "MalformedNameConstraint" => VerifyKind::BadConstraint,
            "MalformedDnsIdentifier" => VerifyKind::BadName,
            "EmptyEkuExtension" => VerifyKind::WrongPurpose,
            "ExtensionValueInvalid" | "MalformedExtensions" => VerifyKind::BadExtension,
            "MaximumNameConstraintComparisonsExceeded"
            | "MaximumPathBuildCallsExceeded"
            | "MaximumSignatureChecksExceeded" => VerifyKind::TooManyPaths,
            "SignatureAlgorithmMismatch" => VerifyKind::BadSignature,
            "UnsupportedCertVersion" => VerifyKind::OldVersion,
            _ => VerifyKind::Other,
        },
        _ => VerifyKind::Other,
    }
}

/// What became of the session. `recorded` is what the verifier found out, in more detail.
pub fn session_error(error: &Error, recorded: Option<VerifyError>, trust: &str) -> TlsError {
    match error {
        Error::InvalidCertificate(_)
        | Error::InvalidCertRevocationList(_)
        | Error::NoCertificatesPresented => TlsError::Verification(
            recorded.unwrap_or_else(|| VerifyError::new(verify_kind(error), trust)),
        ),
        Error::AlertReceived(alert) => TlsError::Alert {
            description: alert_words(*alert),
            code: u8::from(*alert),
        },
        Error::NoApplicationProtocol => TlsError::NoApplicationProtocol,
        error => TlsError::Protocol(protocol_words(error)),
    }
}

fn protocol_words(error: &Error) -> String {
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "wrong version number: the peer does not speak TLS".into()
        }
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => {
            "wrong version number".into()
        }
        Error::InvalidMessage(InvalidMessage::MessageTooLarge) | Error::PeerSentOversizedRecord => {
            "packet length too long".into()
        }
        Error::InvalidMessage(reason) => format!("malformed message: {reason:?}"),
        Error::DecryptError => "decryption failed or bad record mac".into(),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            format!("unexpected message: {error}")
        }
        Error::PeerIncompatible(reason) => match reason {
            PeerIncompatible::NoCipherSuitesInCommon => "no shared cipher".into(),
            PeerIncompatible::NoKxGroupsInCommon => "no suitable key share".into(),
            PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
                "no shared signature algorithms".into()
            }
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
                "unsupported protocol".into()
            }
            reason => format!("incompatible peer: {reason:?}"),
        },
        Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments) => {
            "too many empty records".into()
        }
        Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests) => {
            "too many renegotiation requests".into()
        }
        Error::PeerMisbehaved(reason) => format!("protocol violation: {reason:?}"),
        error => error.to_string(),
    }
}

/// The text OpenSSL gives for an alert that was received. Those older than TLS carry the name of
/// SSL 3.
fn alert_words(alert: AlertDescription) -> String {
    let (prefix, words) = match alert {
        AlertDescription::CloseNotify => ("sslv3", "close notify"),
        AlertDescription::UnexpectedMessage => ("sslv3", "unexpected message"),
        AlertDescription::BadRecordMac => ("sslv3", "bad record mac"),
        AlertDescription::DecompressionFailure => ("sslv3", "decompression failure"),
        AlertDescription::HandshakeFailure => ("sslv3", "handshake failure"),
        AlertDescription::NoCertificate => ("sslv3", "no certificate"),
        AlertDescription::BadCertificate => ("sslv3", "bad certificate"),
        AlertDescription::UnsupportedCertificate => ("sslv3", "unsupported certificate"),
        AlertDescription::CertificateRevoked => ("sslv3", "certificate revoked"),
        AlertDescription::CertificateExpired => ("sslv3", "certificate expired"),
        AlertDescription::CertificateUnknown => ("sslv3", "certificate unknown"),
        AlertDescription::IllegalParameter => ("sslv3", "illegal parameter"),
        AlertDescription::DecryptionFailed => ("tlsv1", "decryption failed"),
        AlertDescription::RecordOverflow => ("tlsv1", "record overflow"),
        AlertDescription::UnknownCA => ("tlsv1", "unknown ca"),
        AlertDescription::AccessDenied => ("tlsv1", "access denied"),
        AlertDescription::DecodeError => ("tlsv1", "decode error"),
        AlertDescription::DecryptError => ("tlsv1", "decrypt error"),
        AlertDescription::ProtocolVersion => ("tlsv1", "protocol version"),
        AlertDescription::InsufficientSecurity => ("tlsv1", "insufficient security"),
        AlertDescription::InternalError => ("tlsv1", "internal error"),
        AlertDescription::InappropriateFallback => ("tlsv1", "inappropriate fallback"),
        AlertDescription::UserCanceled => ("tlsv1", "user cancelled"),
        AlertDescription::NoRenegotiation => ("tlsv1", "no renegotiation"),
        AlertDescription::MissingExtension => ("tlsv13", "missing extension"),
        AlertDescription::UnsupportedExtension => ("tlsv1", "unsupported extension"),
        AlertDescription::UnrecognisedName => ("tlsv1", "unrecognized name"),
        AlertDescription::UnknownPSKIdentity => ("tlsv1", "unknown psk identity"),
        AlertDescription::CertificateRequired => ("tlsv13", "certificate required"),
        AlertDescription::NoApplicationProtocol => ("tlsv1", "no application protocol"),
        other => return format!("tlsv1 alert number {}", u8::from(other)),
    };
    format!("{prefix} alert {words}")
}

/// What the peer speaks instead of TLS.
pub fn other_protocol(input: &[u8]) -> Option<&'static str> {
    const HTTP: [&[u8]; 8] = [
        b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE", b"OPTIONS", b"PATCH", b"PRI * ",
    ];
    let is = |word: &[u8]| {
        let n = word.len().min(input.len());
        n >= 4 && input[..n] == word[..n]
    };
    if HTTP.iter().any(|word| is(word)) {
        Some("http request")
    } else if is(b"CONNECT") {
        Some("https proxy request")
    } else if is(b"HTTP/") {
        Some("wrong version number: the peer answers in plain HTTP")
    } else {
        None
    }
}

//! Which names a certificate is made for.

use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName};

/// Whether certificates can be made for this at all: a DNS name in ASCII, or an IP address.
pub fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

/// Whether a client that asks for `name`, a DNS name or an IP address, would accept it.
pub fn covers(certificate: &CertificateDer<'_>, name: &str) -> bool {
    match (
        ParsedCertificate::try_from(certificate),
        ServerName::try_from(name),
    ) {
        (Ok(parsed), Ok(name)) => verify_server_name(&parsed, &name).is_ok(),
        _ => false,
    }
}

//! Servers that show a certificate without having its key.

use std::sync::Arc;

use mantou_engine::tls::{ClientSpec, Session, TlsConfig, TlsError, VerifyKind};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, version};

use crate::parties::{authority, issue, params};

/// What a server of rustls makes of a client's bytes.
fn answer(server: &mut ServerConnection, from_client: &[u8]) -> Vec<u8> {
    let mut input = from_client;
    while !input.is_empty() {
        server.read_tls(&mut input).unwrap();
        // It is told that it was refused.
        let _ = server.process_new_packets();
    }
    let mut output = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut output).unwrap();
    }
    output
}

/// Shows a certificate without having its key.
#[derive(Debug)]
struct Impostor(Arc<CertifiedKey>);

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[test]
fn the_key_is_asked_for_even_if_the_certificate_is_not_verified() {
    for (version, honest) in [
        (&version::TLS12, false),
        (&version::TLS13, false),
        (&version::TLS12, true),
        (&version::TLS13, true),
    ] {
        let ca = authority("root");
        let shown = issue(&params(&["a.test"]), &ca);
        let key = if honest {
            shown.key
        } else {
            issue(&params(&["a.test"]), &ca).key
        };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let own = CertifiedKey::new(shown.chain, key);
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Impostor(Arc::new(own))));
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let spec = ClientSpec {
            verify: false,
            ..ClientSpec::default()
        };
        let config = TlsConfig::client(spec).unwrap();
        let mut client = Session::client(&config, Some("a.test"), None).unwrap();
        let outcome = loop {
            let mut output = Vec::new();
            client.take_output(&mut output);
            let mut input = answer(&mut server, &output);
            match client.feed(&mut input, &mut Vec::new()) {
                Ok(fed) if fed.established => break Ok(()),
                Ok(_) => assert!(client.has_output(), "stuck"),
                Err(error) => break Err(error),
            }
        };
        if honest {
            assert_eq!(outcome, Ok(()));
        } else {
            assert!(
                matches!(&outcome, Err(TlsError::Verification(error)) if error.kind == VerifyKind::BadSignature),
                "{outcome:?}"
            );
        }
    }
}

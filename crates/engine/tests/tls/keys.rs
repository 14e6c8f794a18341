//! What is derived from the keys, and their renewal.

use std::sync::Arc;

use mantou_engine::tls::{Binding, Identity, PrivateKeyDer, ServerSpec, Session, TlsConfig};

use crate::parties::{Pair, Setup};

pub fn check_exporters(pair: &Pair) {
    for context in [None, Some(&b""[..]), Some(b"context")] {
        let mut material = [[0; 47]; 2];
        let [one, two] = &mut material;
        pair.client
            .export_keying_material(b"EXPORTER-test", context, one)
            .unwrap();
        pair.server
            .export_keying_material(b"EXPORTER-test", context, two)
            .unwrap();
        assert!(one == two && one != &[0; 47]);
    }
    let binding = pair.client.channel_binding(Binding::TlsExporter);
    assert!(binding.is_some() && binding == pair.server.channel_binding(Binding::TlsExporter));
}

#[test]
fn keying_material_is_the_same_at_both_ends() {
    for setup in [Setup::new(), Setup::new().tls12()] {
        let pair = setup.pair();
        assert!(
            pair.client
                .export_keying_material(b"x", None, &mut [0; 8])
                .is_err()
        );
        assert_eq!(pair.client.channel_binding(Binding::TlsExporter), None);
        let pair = pair.connect();
        check_exporters(&pair);
        let end_point = pair.client.channel_binding(Binding::ServerEndPoint);
        assert_eq!(end_point.as_ref().map(Vec::len), Some(32));
        assert_eq!(
            end_point,
            pair.server.channel_binding(Binding::ServerEndPoint)
        );
    }
}

/// The same sessions with rustls' own exporter at the other end.
#[test]
fn keying_material_is_what_rustls_exports() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let made = rcgen::generate_simple_self_signed(["a.test".to_string()]).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "a.test".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut spec = ServerSpec::default();
        spec.common.identities = vec![Identity {
            chain: vec![made.cert.der().clone()],
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        }];
        let mut server = Session::server(&TlsConfig::server(spec).unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.feed(&mut wire, &mut Vec::new()).unwrap();
            let mut wire = Vec::new();
            server.take_output(&mut wire);
            let mut rest = &wire[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        for context in [None, Some(&b""[..]), Some(b"context")] {
            let theirs = client
                .export_keying_material([0; 80], b"label", context)
                .unwrap();
            let mut ours = [0; 80];
            server
                .export_keying_material(b"label", context, &mut ours)
                .unwrap();
            assert_eq!(ours, theirs);
        }
    }
}

#[test]
fn keys_are_updated_in_both_directions() {
    let mut pair = Setup::new().pair().connect();
    for _ in 0..3 {
        pair.client.update_keys().unwrap();
        pair.check_echo();
        pair.server.update_keys().unwrap();
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        pair.server.take_output(&mut wire);
        assert!(!wire.is_empty());
        pair.client.feed(&mut wire, &mut plain).unwrap();
        // A small buffer takes the answer in parts.
        let (mut out, mut wire) = ([0; 7], Vec::new());
        loop {
            let sealed = pair.client.seal_into(b"data", &mut out).unwrap();
            wire.extend_from_slice(&out[..sealed.written]);
            if sealed.written == 0 {
                break;
            }
        }
        pair.server.feed(&mut wire, &mut plain).unwrap();
        pair.check_echo();
    }
    // An answer that is owed goes before the end.
    pair.server.update_keys().unwrap();
    assert_eq!(pair.server_sends(b"x"), b"x");
    let (mut wire, mut plain) = (Vec::new(), Vec::new());
    pair.client.close_notify(&mut wire);
    assert!(pair.server.feed(&mut wire, &mut plain).unwrap().peer_closed);
    assert!(
        Setup::new()
            .tls12()
            .pair()
            .connect()
            .client
            .update_keys()
            .is_err()
    );
}

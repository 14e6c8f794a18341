//! Handshakes, data, endings, resumption.

use mantou_engine::tls::{
    Authorization, ClientAuth, ClientSpec, ServerSpec, Session, TlsConfig, TlsError, VerifyKind,
    Version,
};

use crate::keys::check_exporters;
use crate::parties::{Pair, Setup, authority, issue, params, pattern, trust};

#[test]
fn both_versions_shake_hands_and_carry_data() {
    let mut pair = Setup::new().pair().connect();
    assert_eq!(pair.client.version(), Some("TLSv1.3"));
    assert_eq!(pair.server.group().unwrap().0, "X25519MLKEM768");
    assert_eq!(pair.client.cipher().unwrap().name, "TLS_AES_256_GCM_SHA384");
    assert_eq!(pair.client.authorization(), Authorization::Passed);
    assert_eq!(pair.server.authorization(), Authorization::None);
    assert_eq!(pair.server.server_name(), Some("a.test"));
    assert_eq!(
        pair.server.own_certificates(),
        pair.client.peer_certificates()
    );
    assert!(!pair.client.is_resumed());
    pair.check_echo();

    let mut pair = Setup::new().tls12().pair().connect();
    assert_eq!(pair.server.version(), Some("TLSv1.2"));
    assert_eq!(pair.server.group().unwrap().0, "X25519");
    let cipher = pair.client.cipher().unwrap();
    assert_eq!(cipher.name, "ECDHE-ECDSA-AES256-GCM-SHA384");
    assert_eq!(
        cipher.standard_name,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    );
    pair.check_echo();
}

#[test]
fn versions_without_overlap_and_ciphers_without_overlap_fail() {
    let mut setup = Setup::new();
    setup.client.common.max_version = Version::Tls12;
    setup.server.common.min_version = Version::Tls13;
    let (client, server) = setup.pair().carry(usize::MAX);
    assert_eq!(server.unwrap_err().to_string(), "unsupported protocol");
    assert_eq!(
        client.unwrap_err().to_string(),
        "tlsv1 alert protocol version"
    );

    let mut setup = Setup::new().tls12();
    setup.client.common.ciphers = Some("ECDHE-ECDSA-AES128-GCM-SHA256".into());
    setup.server.common.ciphers = Some("ECDHE-ECDSA-AES256-GCM-SHA384".into());
    let (client, server) = setup.pair().carry(usize::MAX);
    assert_eq!(server.unwrap_err().to_string(), "no shared cipher");
    assert_eq!(
        client.unwrap_err().to_string(),
        "sslv3 alert handshake failure"
    );
}

#[test]
fn every_byte_may_arrive_alone() {
    for setup in [Setup::new(), Setup::new().tls12()] {
        let mut pair = setup.pair();
        assert_eq!(pair.carry(1), (Ok(()), Ok(())));
        assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
        let data = pattern(40_000);
        let mut wire = Vec::new();
        pair.server.seal(&data, &mut wire).unwrap();
        let mut plain = Vec::new();
        for byte in wire.chunks_mut(1) {
            pair.client.feed(byte, &mut plain).unwrap();
        }
        assert_eq!(plain, data);
    }
}

#[test]
fn records_may_be_cut_anywhere() {
    let mut pair = Setup::new().pair().connect();
    let data = pattern(200_000);
    for piece in [3, 1_000, 16_389, 16_406, 65_536, 70_001] {
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        pair.client.seal(&data, &mut wire).unwrap();
        for part in wire.chunks_mut(piece) {
            pair.server.feed(part, &mut plain).unwrap();
            // Answers may be sent between the parts.
            let mut answer = Vec::new();
            pair.server.seal(b"x", &mut answer).unwrap();
            pair.client.feed(&mut answer, &mut Vec::new()).unwrap();
        }
        assert_eq!(plain, data);
    }
}

#[test]
fn a_message_of_many_fragments_is_put_together() {
    for setup in [Setup::new(), Setup::new().tls12()] {
        let mut pair = setup.pair().connect();
        for size in [1, 2, 512, 16_384] {
            assert!(pair.client.set_max_fragment(size));
            let data = pattern(3_000);
            let mut wire = Vec::new();
            pair.client.seal(&data, &mut wire).unwrap();
            assert!(wire.len() >= data.len() + data.len().div_ceil(size) * 22);
            let mut plain = Vec::new();
            pair.server.feed(&mut wire, &mut plain).unwrap();
            assert_eq!(plain, data);
        }
        assert!(!pair.client.set_max_fragment(0) && !pair.client.set_max_fragment(16_385));
    }
}

#[test]
fn sealing_stops_where_the_buffer_ends() {
    let mut pair = Setup::new().pair().connect();
    let data = pattern(100_000);
    for room in [1, 30, 31, 500, 16_414, 16_450, 40_000] {
        let (mut taken, mut plain, mut out) = (0, Vec::new(), vec![0; room]);
        loop {
            let sealed = pair.client.seal_into(&data[taken..], &mut out).unwrap();
            taken += sealed.taken;
            if sealed.written == 0 || (room < 500 && taken > 2_000) {
                pair.server
                    .feed(&mut out[..sealed.written], &mut plain)
                    .unwrap();
                break;
            }
            pair.server
                .feed(&mut out[..sealed.written], &mut plain)
                .unwrap();
        }
        assert_eq!(plain, data[..taken]);
        assert!(room < 500 || taken == data.len());
        assert!(room > 30 || taken == 0);
    }
}

#[test]
fn nothing_is_sealed_before_the_handshake_or_after_the_end() {
    let mut pair = Setup::new().pair();
    let mut wire = Vec::new();
    assert_eq!(pair.client.seal(b"early", &mut wire), Ok(0));
    // The first flight is handed out all the same.
    assert!(!wire.is_empty());
    pair.server.feed(&mut wire, &mut pair.at_server).unwrap();
    let mut pair = pair.connect();
    let mut wire = Vec::new();
    pair.client.close_notify(&mut wire);
    let end = wire.len();
    assert_eq!(pair.client.seal(b"late", &mut wire), Ok(0));
    pair.client.close_notify(&mut wire);
    assert_eq!(wire.len(), end);
    assert!(pair.at_server.is_empty());
}

#[test]
fn each_side_ends_for_itself() {
    for setup in [Setup::new(), Setup::new().tls12()] {
        let mut pair = setup.pair().connect();
        let mut wire = Vec::new();
        pair.client.seal(b"last words", &mut wire).unwrap();
        pair.client.close_notify(&mut wire);
        wire.extend_from_slice(b"ignored");
        let mut plain = Vec::new();
        let fed = pair.server.feed(&mut wire, &mut plain).unwrap();
        assert!(fed.peer_closed && plain == b"last words");
        assert_eq!(pair.server.eof(), Ok(()));
        assert_eq!(pair.client.eof(), Err(TlsError::Truncated));
        // The other half stays open.
        assert_eq!(pair.server_sends(b"answer"), b"answer");
        let mut wire = Vec::new();
        pair.server.close_notify(&mut wire);
        assert!(pair.client.feed(&mut wire, &mut plain).unwrap().peer_closed);
        assert_eq!(pair.client.eof(), Ok(()));
    }
}

#[test]
fn protocols_are_agreed_on_or_refused() {
    let names =
        |list: &[&str]| -> Vec<Vec<u8>> { list.iter().map(|s| s.as_bytes().into()).collect() };
    for tls12 in [false, true] {
        let alpn = |client: &[&str], server: &[&str]| {
            let mut setup = Setup::new();
            setup.client.common.alpn = names(client);
            setup.server.common.alpn = names(server);
            if tls12 { setup.tls12() } else { setup }.pair()
        };
        let pair = alpn(&["x", "h2"], &["http/1.1", "h2"]).connect();
        assert_eq!(pair.client.alpn(), Some(&b"h2"[..]));
        assert_eq!(pair.server.alpn(), Some(&b"h2"[..]));
        assert_eq!(alpn(&[], &["h2"]).connect().server.alpn(), None);
        assert_eq!(alpn(&["h2"], &[]).connect().client.alpn(), None);
        let (client, server) = alpn(&["x"], &["h2"]).carry(usize::MAX);
        assert_eq!(server, Err(TlsError::NoApplicationProtocol));
        let alert = client.unwrap_err();
        assert!(matches!(&alert, TlsError::Alert { code: 120, .. }));
        assert_eq!(alert.to_string(), "tlsv1 alert no application protocol");
    }
}

#[test]
fn sessions_are_resumed() {
    for version in [Version::Tls12, Version::Tls13] {
        let ca = authority("root");
        let spec = |verify| {
            let mut spec = ClientSpec {
                verify,
                ..ClientSpec::default()
            };
            spec.common.trust = trust(&ca);
            spec.common.max_version = version;
            spec
        };
        let mut server = ServerSpec::default();
        server.common.identities = vec![issue(&params(&["a.test"]), &ca)];
        let server = TlsConfig::server(server).unwrap();
        let config = TlsConfig::client(spec(true)).unwrap();
        let first = Pair::new(&config, &server, "a.test").connect();
        assert!(!first.client.is_resumed());
        let token = first.client.resume_token().unwrap();
        assert!(token.is_usable());
        drop((first, config));
        // Options that are equal resume it, over and over.
        for _ in 0..5 {
            let config = TlsConfig::client(spec(true)).unwrap();
            let mut pair = Pair::new(&config, &server, "a.test");
            pair.client = Session::client(&config, Some("a.test"), Some(&token)).unwrap();
            let mut pair = pair.connect();
            assert!(pair.client.is_resumed() && pair.server.is_resumed());
            assert_eq!(pair.client.authorization(), Authorization::Passed);
            assert_eq!(pair.client.peer_certificates().len(), 1);
            assert_eq!(pair.server.server_name(), Some("a.test"));
            check_exporters(&pair);
            pair.check_echo();
        }
        // Others do not, and neither does another name.
        let other = TlsConfig::client(spec(false)).unwrap();
        for name in ["a.test", "b.test"] {
            let mut pair = Pair::new(&other, &server, name);
            pair.client = Session::client(&other, Some(name), Some(&token)).unwrap();
            assert!(!pair.connect().client.is_resumed());
        }
    }
}

#[test]
fn resuming_does_not_turn_a_failed_verification_into_a_passed_one() {
    for version in [Version::Tls12, Version::Tls13] {
        let (ca, other) = (authority("root"), authority("other"));
        let mut client = ClientSpec {
            verify: false,
            ..ClientSpec::default()
        };
        client.common.trust = trust(&other);
        client.common.max_version = version;
        client.common.identities = vec![issue(&params(&["client"]), &other)];
        let mut server = ServerSpec {
            client_auth: ClientAuth::Request,
            prefer_own_ciphers: false,
            ..ServerSpec::default()
        };
        server.common.trust = trust(&ca);
        server.common.identities = vec![issue(&params(&["a.test"]), &ca)];
        let client = TlsConfig::client(client).unwrap();
        let server = TlsConfig::server(server).unwrap();
        let first = Pair::new(&client, &server, "a.test").connect();
        let token = first.client.resume_token();
        let mut pair = Pair::new(&client, &server, "a.test");
        pair.client = Session::client(&client, Some("a.test"), token.as_ref()).unwrap();
        let pair = pair.connect();
        assert!(pair.client.is_resumed() && pair.server.is_resumed());
        let mut kinds = Vec::new();
        for session in [&pair.client, &pair.server, &first.client, &first.server] {
            match session.authorization() {
                Authorization::Failed(failure) => kinds.push(failure.kind),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(kinds, [VerifyKind::UnknownIssuer; 4]);
    }
}

//! Peers that speak no TLS, or bad TLS.

use mantou_engine::tls::{TlsConfig, TlsError, VerifyKind};
use rcgen::{CertifiedIssuer, KeyPair};

use crate::parties::{Pair, Setup, authority, authority_params, issue, params, trust};

#[test]
fn what_is_not_tls_is_refused_with_an_alert() {
    let long = [&[0x16, 3, 1, 0xff, 0xff][..], &[0; 100]].concat();
    let inputs: [(&[u8], &str); 7] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http request"),
        (b"CONNECT a:443 HTTP/1.1\r\n\r\n", "https proxy request"),
        (b"EHLO there\r\n", "the peer does not speak TLS"),
        (&[0; 64], "the peer does not speak TLS"),
        (&long, "packet length too long"),
        (&[0x16, 3, 1, 0, 4, 9, 0, 0, 0], ""),
        (&[0x17, 3, 3, 0, 4, 9, 0, 0, 0], ""),
    ];
    for (input, reason) in inputs {
        for piece in [1, usize::MAX] {
            let mut server = Setup::new().pair().server;
            let mut plain = Vec::new();
            let mut error = None;
            for part in input.to_vec().chunks_mut(piece) {
                error = error.or(server.feed(part, &mut plain).err());
            }
            let error = error.unwrap();
            assert!(matches!(error, TlsError::Protocol(_)), "{error:?}");
            // A single byte says less.
            let text = error.to_string();
            assert!(piece == 1 || text.contains(reason), "{error} for {reason}");
            let mut alert = Vec::new();
            server.take_output(&mut alert);
            assert_eq!((alert[0], alert.len()), (21, 7), "{error}");
            assert_eq!(server.feed(&mut [1], &mut plain), Err(error));
        }
    }
}

#[test]
fn a_message_that_never_ends_is_not_held_for_ever() {
    fn movable<T: Send>(_: &T) {}
    let mut server = Setup::new().pair().server;
    // A ClientHello of 60000 bytes, a byte in each record.
    let mut result = server.feed(&mut [22, 3, 1, 0, 4, 1, 0, 0xea, 0x60], &mut Vec::new());
    let mut sent = 0;
    while result.is_ok() && sent < 60_000 {
        let mut wire = [22, 3, 1, 0, 1, 0].repeat(500);
        result = server.feed(&mut wire, &mut Vec::new());
        sent += 500;
    }
    assert!(matches!(result, Err(TlsError::Protocol(_))), "{result:?}");
    // Sessions may go to another thread.
    movable(&server);
}

#[test]
fn a_crowd_of_certificates_is_not_tried_in_every_order() {
    let crowd: Vec<_> = (0..12).map(|_| authority("one of many")).collect();
    let mut setup = Setup::new();
    let mut identity = issue(&params(&["a.test"]), &crowd[0]);
    let chain = crowd.iter().map(|issuer| issuer.der().clone());
    identity.chain.extend(chain);
    setup.server.common.identities = vec![identity];
    let Err(TlsError::Verification(failure)) = setup.pair().carry(usize::MAX).0 else {
        panic!("it was trusted");
    };
    // And not that webpki has given up, after 200,000 steps.
    assert_eq!(failure.kind, VerifyKind::SelfSignedInChain, "{failure}");
}

#[test]
fn a_chain_is_found_among_what_does_not_belong_to_it() {
    let root = authority("root");
    let between = |name, issuer| {
        let key = KeyPair::generate().unwrap();
        CertifiedIssuer::signed_by(authority_params(name), key, issuer).unwrap()
    };
    let upper = between("upper", &root);
    let lower = between("lower", &upper);
    let mut identity = issue(&params(&["a.test"]), &lower);
    let strangers = (0..30).map(|number| authority(&format!("stranger {number}")));
    identity.chain.extend(strangers.map(|it| it.der().clone()));
    // Two more of a name, of which the key is another's.
    identity.chain.extend([
        authority("lower").der().clone(),
        authority("upper").der().clone(),
    ]);
    identity
        .chain
        .extend([upper.der().clone(), lower.der().clone()]);
    let mut setup = Setup::new();
    setup.client.common.trust = trust(&root);
    setup.server.common.identities = vec![identity];
    setup.pair().connect().check_echo();
}

#[test]
fn a_plain_answer_is_refused_by_the_client() {
    let mut client = Setup::new().pair().client;
    let mut input = b"HTTP/1.1 400 Bad Request\r\n".to_vec();
    let error = client.feed(&mut input, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("plain HTTP"), "{error}");
}

#[test]
fn tampering_ends_the_session_with_an_alert() {
    for setup in [Setup::new(), Setup::new().tls12()] {
        let mut pair = setup.pair().connect();
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        pair.client.seal(b"good", &mut wire).unwrap();
        let good = wire.len();
        pair.client.seal(b"evil", &mut wire).unwrap();
        wire[good + 8] ^= 1;
        let error = pair.server.feed(&mut wire, &mut plain).unwrap_err();
        assert_eq!(error.to_string(), "decryption failed or bad record mac");
        assert_eq!(plain, b"good");
        let mut alert = Vec::new();
        pair.server.take_output(&mut alert);
        let error = pair.client.feed(&mut alert, &mut plain).unwrap_err();
        assert_eq!(error.to_string(), "sslv3 alert bad record mac");
        assert!(pair.server.seal(b"x", &mut alert).is_err());
    }
}

#[test]
fn random_changes_never_panic() {
    let mut seed = 1u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let Setup { client, server, .. } = Setup::new();
    let client = TlsConfig::client(client).unwrap();
    let server = TlsConfig::server(server).unwrap();
    for round in 0..600 {
        let mut pair = Pair::new(&client, &server, "a.test");
        if round % 2 == 0 {
            pair = pair.connect();
        }
        let mut wire = Vec::new();
        pair.client.seal(&[1; 300], &mut wire).unwrap();
        for _ in 0..=random(3) {
            let at = random(wire.len());
            wire[at] = u8::try_from(random(256)).unwrap();
        }
        if round % 3 == 0 {
            wire.insert(random(wire.len()), 22);
        }
        let mut plain = Vec::new();
        for part in wire.chunks_mut(1 + random(200)) {
            let _ = pair.server.feed(part, &mut plain);
            let _ = pair.server.seal(b"x", &mut Vec::new());
        }
        pair.server.close_notify(&mut Vec::new());
    }
}

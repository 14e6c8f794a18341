//! TLS sessions against each other, in memory.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use mantou_engine::tls::{
    Authorization, Binding, CertificateDer, ClientAuth, ClientSpec, Common, Identity,
    PrivateKeyDer, ServerSpec, Session, TlsConfig, TlsError, Trust, VerifyKind, Version,
    revocation_lists,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params
}

fn issue(params: &CertificateParams, issuer: &Issuer) -> Identity {
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, issuer).unwrap();
    Identity {
        chain: vec![cert.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    }
}

fn trust(issuer: &Issuer) -> Trust {
    Trust::Certificates(vec![issuer.der().clone()])
}

struct Setup {
    client: ClientSpec,
    server: ServerSpec,
    name: &'static str,
}

impl Setup {
    /// A server that its client trusts.
    fn new() -> Self {
        let ca = authority("root");
        let mut setup = Self {
            client: ClientSpec::default(),
            server: ServerSpec::default(),
            name: "a.test",
        };
        setup.client.common.trust = trust(&ca);
        setup.server.common.identities = vec![issue(&params(&["a.test", "127.0.0.1"]), &ca)];
        setup
    }

    fn both(mut self, change: impl Fn(&mut Common)) -> Self {
        change(&mut self.client.common);
        change(&mut self.server.common);
        self
    }

    fn tls12(self) -> Self {
        self.both(|common| common.max_version = Version::Tls12)
    }

    fn pair(self) -> Pair {
        let client = TlsConfig::client(self.client).unwrap();
        let server = TlsConfig::server(self.server).unwrap();
        Pair::new(&client, &server, self.name)
    }
}

struct Pair {
    client: Session,
    server: Session,
    at_client: Vec<u8>,
    at_server: Vec<u8>,
}

impl Pair {
    fn new(client: &Arc<TlsConfig>, server: &Arc<TlsConfig>, name: &str) -> Self {
        Self {
            client: Session::client(client, name, None).unwrap(),
            server: Session::server(server).unwrap(),
            at_client: Vec::new(),
            at_server: Vec::new(),
        }
    }

    /// Carries what both have to say until nobody has.
    fn carry(&mut self, piece: usize) -> (Result<(), TlsError>, Result<(), TlsError>) {
        let (mut client, mut server) = (Ok(()), Ok(()));
        loop {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            self.client.take_output(&mut up);
            self.server.take_output(&mut down);
            if up.is_empty() && down.is_empty() {
                return (client, server);
            }
            for piece in up.chunks_mut(piece) {
                if server.is_ok() {
                    server = self.server.feed(piece, &mut self.at_server).map(drop);
                }
            }
            for piece in down.chunks_mut(piece) {
                if client.is_ok() {
                    client = self.client.feed(piece, &mut self.at_client).map(drop);
                }
            }
        }
    }

    fn connect(mut self) -> Self {
        assert_eq!(self.carry(usize::MAX), (Ok(()), Ok(())));
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        self
    }

    fn check_echo(&mut self) {
        for text in [&b"ping"[..], b"pong"] {
            assert_eq!(self.client_sends(text), text);
            assert_eq!(self.server_sends(text), text);
        }
    }

    fn client_sends(&mut self, data: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        assert_eq!(self.client.seal(data, &mut wire), Ok(data.len()));
        let mut plain = Vec::new();
        self.server.feed(&mut wire, &mut plain).unwrap();
        plain
    }

    fn server_sends(&mut self, data: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        assert_eq!(self.server.seal(data, &mut wire), Ok(data.len()));
        let mut plain = Vec::new();
        self.client.feed(&mut wire, &mut plain).unwrap();
        plain
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0u8..251).cycle().take(len).collect()
}

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
            pair.client = Session::client(&config, "a.test", Some(&token)).unwrap();
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
            pair.client = Session::client(&other, name, Some(&token)).unwrap();
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
            ..ServerSpec::default()
        };
        server.common.trust = trust(&ca);
        server.common.identities = vec![issue(&params(&["a.test"]), &ca)];
        let client = TlsConfig::client(client).unwrap();
        let server = TlsConfig::server(server).unwrap();
        let first = Pair::new(&client, &server, "a.test").connect();
        let token = first.client.resume_token();
        let mut pair = Pair::new(&client, &server, "a.test");
        pair.client = Session::client(&client, "a.test", token.as_ref()).unwrap();
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

fn check_exporters(pair: &Pair) {
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

/// What the client says of a server, strict and lenient.
fn verdict(
    identity: impl Fn() -> Identity,
    trust: &Trust,
    name: &str,
    crl: &str,
) -> Option<(VerifyKind, String)> {
    let mut seen = Vec::new();
    for (verify, version) in [
        (true, Version::Tls12),
        (true, Version::Tls13),
        (false, Version::Tls12),
        (false, Version::Tls13),
    ] {
        let mut client = ClientSpec {
            verify,
            ..ClientSpec::default()
        };
        client.common.trust = trust.clone();
        client.common.max_version = version;
        if !crl.is_empty() {
            client.common.crls = revocation_lists("crl", crl.as_bytes()).unwrap();
        }
        let mut server = ServerSpec::default();
        server.common.identities = vec![identity()];
        let client = TlsConfig::client(client).unwrap();
        let server = TlsConfig::server(server).unwrap();
        let mut pair = Pair::new(&client, &server, name);
        let (result, answer) = pair.carry(usize::MAX);
        let failure = match (verify, result) {
            (true, Err(TlsError::Verification(failure))) => {
                assert!(matches!(answer, Err(TlsError::Alert { .. })), "{answer:?}");
                assert!(pair.client.seal(b"x", &mut Vec::new()).is_err());
                Some(failure)
            }
            (_, Ok(())) => match pair.client.authorization() {
                Authorization::Failed(failure) if !verify => Some(failure.clone()),
                Authorization::Passed => None,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        if let Some(failure) = &failure {
            assert!(failure.to_string().contains("checked against"));
        }
        seen.push(failure.map(|failure| (failure.kind, failure.message)));
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "{seen:?}");
    seen.swap_remove(0)
}

#[test]
fn servers_are_verified() {
    let ca = authority("root");
    let trusted = trust(&ca);
    let check =
        |params: &CertificateParams, name: &str| verdict(|| issue(params, &ca), &trusted, name, "");
    let failed = |kind, text: &str| Some((kind, text.to_string()));

    assert_eq!(check(&params(&["a.test"]), "a.test"), None);
    assert_eq!(check(&params(&["*.sub.test"]), "a.sub.test"), None);
    assert_eq!(check(&params(&["127.0.0.1"]), "127.0.0.1"), None);
    assert_eq!(check(&params(&["::1"]), "::1"), None);
    assert_eq!(
        check(&params(&["a.test"]), "b.test"),
        failed(
            VerifyKind::HostnameMismatch,
            "Hostname mismatch, certificate is not valid for 'b.test'."
        )
    );
    assert_eq!(
        check(&params(&[]), "a.test").unwrap().0,
        VerifyKind::HostnameMismatch
    );
    assert_eq!(
        check(&params(&["127.0.0.1"]), "127.0.0.2"),
        failed(
            VerifyKind::IpAddressMismatch,
            "IP address mismatch, certificate is not valid for '127.0.0.2'."
        )
    );

    let mut old = params(&["a.test"]);
    old.not_after = date_time_ymd(2020, 1, 1);
    assert_eq!(
        check(&old, "a.test"),
        failed(VerifyKind::Expired, "certificate has expired")
    );
    let mut young = params(&["a.test"]);
    young.not_before = date_time_ymd(3000, 1, 1);
    assert_eq!(
        check(&young, "a.test"),
        failed(VerifyKind::NotYetValid, "certificate is not yet valid")
    );
    let mut purpose = params(&["a.test"]);
    purpose.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert_eq!(
        check(&purpose, "a.test"),
        failed(VerifyKind::WrongPurpose, "unsuitable certificate purpose")
    );
}

#[test]
fn issuers_are_verified() {
    let (ca, other) = (authority("root"), authority("other"));
    let kind = |identity: &dyn Fn() -> Identity, trust: &Trust| {
        verdict(identity, trust, "a.test", "").map(|failure| (failure.0, failure.0.code()))
    };
    let leaf = params(&["a.test"]);
    let unknown = Some((VerifyKind::UnknownIssuer, 20));
    assert_eq!(kind(&|| issue(&leaf, &other), &trust(&ca)), unknown);
    assert_eq!(
        kind(&|| issue(&leaf, &ca), &Trust::Certificates(Vec::new())),
        unknown
    );
    let with_root = || {
        let mut identity = issue(&leaf, &other);
        identity.chain.push(other.der().clone());
        identity
    };
    assert_eq!(
        kind(&with_root, &trust(&ca)),
        Some((VerifyKind::SelfSignedInChain, 19))
    );
    assert_eq!(kind(&with_root, &trust(&other)), None);

    // Issued by one of the same name that is not the same.
    let namesake = authority("root");
    let found = kind(&|| issue(&leaf, &namesake), &trust(&ca)).unwrap().0;
    assert!(matches!(
        found,
        VerifyKind::BadSignature | VerifyKind::UnknownIssuer
    ));

    // An intermediate, sent along or not.
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "middle");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let middle = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &ca).unwrap();
    let chained = || {
        let mut identity = issue(&leaf, &middle);
        identity.chain.push(middle.der().clone());
        identity
    };
    assert_eq!(kind(&chained, &trust(&ca)), None);
    assert_eq!(kind(&|| issue(&leaf, &middle), &trust(&ca)), unknown);
}

#[test]
fn self_signed_certificates_are_trusted_only_where_they_are_listed() {
    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let make = |change: &dyn Fn(&mut CertificateParams)| {
            let mut params = params(&["a.test"]);
            params.is_ca = is_ca;
            change(&mut params);
            let key = KeyPair::generate().unwrap();
            let cert = params.self_signed(&key).unwrap().der().clone();
            let identity = move || Identity {
                chain: vec![cert.clone()],
                key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            };
            let listed = Trust::Certificates(identity().chain);
            (identity, listed)
        };
        let kind = |found: Option<(VerifyKind, String)>| found.map(|found| found.0);
        let (identity, listed) = make(&|_| {});
        let other = trust(&authority("root"));
        assert_eq!(verdict(&identity, &listed, "a.test", ""), None);
        assert_eq!(
            verdict(&identity, &other, "a.test", ""),
            Some((VerifyKind::SelfSigned, "self-signed certificate".into()))
        );
        let found = kind(verdict(&identity, &listed, "b.test", ""));
        assert_eq!(found, Some(VerifyKind::HostnameMismatch));
        let (identity, listed) = make(&|params| params.not_after = date_time_ymd(2020, 1, 1));
        assert_eq!(
            kind(verdict(&identity, &listed, "a.test", "")),
            Some(VerifyKind::Expired)
        );
        let (identity, listed) = make(&|params| params.not_before = date_time_ymd(3000, 1, 1));
        assert_eq!(
            kind(verdict(&identity, &listed, "a.test", "")),
            Some(VerifyKind::NotYetValid)
        );
    }
}

fn revoking(ca: &Issuer, serial: u64, next_update: i32) -> String {
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(next_update, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(ca).unwrap().pem().unwrap()
}

#[test]
fn revocation_lists_are_obeyed() {
    let (ca, other) = (authority("root"), authority("other"));
    let mut params = params(&["a.test"]);
    params.serial_number = Some(SerialNumber::from(7));
    let check = |crl: &str| {
        let found = verdict(|| issue(&params, &ca), &trust(&ca), "a.test", crl);
        found.map(|failure| failure.0)
    };
    assert_eq!(check(&revoking(&ca, 7, 3000)), Some(VerifyKind::Revoked));
    assert_eq!(check(&revoking(&ca, 8, 3000)), None);
    assert_eq!(
        check(&revoking(&ca, 8, 2022)),
        Some(VerifyKind::RevocationListExpired)
    );
    assert_eq!(
        check(&revoking(&other, 8, 3000)),
        Some(VerifyKind::NoRevocationList)
    );

    // And by servers.
    let mut setup = Setup::new();
    setup.client.common.identities = vec![issue(&params, &ca)];
    setup.server.common.trust = trust(&ca);
    setup.server.common.crls = revocation_lists("crl", revoking(&ca, 7, 3000).as_bytes()).unwrap();
    setup.server.client_auth = ClientAuth::Require;
    let (_, server) = setup.pair().carry(usize::MAX);
    assert!(
        matches!(server, Err(TlsError::Verification(error)) if error.kind == VerifyKind::Revoked)
    );
}

#[test]
fn clients_are_asked_for_certificates() {
    let (ca, other) = (authority("clients"), authority("other"));
    for tls12 in [false, true] {
        let pair = |auth, shown: Option<&Issuer>| {
            let mut setup = Setup::new();
            setup.server.client_auth = auth;
            setup.server.common.trust = trust(&ca);
            if let Some(issuer) = shown {
                setup.client.common.identities = vec![issue(&params(&["client"]), issuer)];
            }
            if tls12 { setup.tls12() } else { setup }.pair()
        };
        let kind = |session: &Session| match session.authorization() {
            Authorization::Failed(failure) => failure.kind,
            other => panic!("{other:?}"),
        };
        let none = pair(ClientAuth::None, Some(&ca)).connect();
        assert_eq!(none.server.authorization(), Authorization::None);
        assert!(none.server.peer_certificates().is_empty());

        for auth in [ClientAuth::Request, ClientAuth::Require] {
            let good = pair(auth, Some(&ca)).connect();
            assert_eq!(good.server.authorization(), Authorization::Passed);
            assert_eq!(
                good.server.peer_certificates(),
                good.client.own_certificates()
            );
            assert_eq!(good.server.peer_certificates().len(), 1);
        }
        let silent = pair(ClientAuth::Request, None).connect();
        assert_eq!(kind(&silent.server), VerifyKind::Missing);
        let bad = pair(ClientAuth::Request, Some(&other)).connect();
        assert_eq!(kind(&bad.server), VerifyKind::UnknownIssuer);

        let (client, server) = pair(ClientAuth::Require, None).carry(usize::MAX);
        let error = server.unwrap_err().to_string();
        assert!(
            error.contains("peer did not return a certificate"),
            "{error}"
        );
        assert!(matches!(client, Err(TlsError::Alert { .. })), "{client:?}");
        let (client, server) = pair(ClientAuth::Require, Some(&other)).carry(usize::MAX);
        assert!(matches!(server, Err(TlsError::Verification(_))));
        assert_eq!(client.unwrap_err().to_string(), "tlsv1 alert unknown ca");
    }
}

#[test]
fn addresses_are_not_sent_as_server_names() {
    let mut setup = Setup::new();
    setup.name = "127.0.0.1";
    let pair = setup.pair().connect();
    assert_eq!(pair.server.server_name(), None);
    assert_eq!(pair.client.server_name(), Some("127.0.0.1"));
}

#[test]
fn of_several_certificates_the_one_for_the_name_is_shown() {
    let ca = authority("root");
    let mut server = ServerSpec::default();
    server.common.identities = ["a.test", "b.test"]
        .map(|name| issue(&params(&[name]), &ca))
        .into();
    let chains = server.common.identities.iter();
    let shown: Vec<CertificateDer<'_>> = chains.map(|id| id.chain[0].clone()).collect();
    let server = TlsConfig::server(server).unwrap();
    let mut client = ClientSpec {
        verify: false,
        ..ClientSpec::default()
    };
    client.common.trust = trust(&ca);
    let client = TlsConfig::client(client).unwrap();
    for (name, index) in [("a.test", 0), ("b.test", 1), ("c.test", 0)] {
        let pair = Pair::new(&client, &server, name).connect();
        assert_eq!(pair.client.peer_certificates()[0], shown[index]);
        assert_eq!(pair.server.own_certificates()[0], shown[index]);
    }
}

#[test]
fn options_that_cannot_be_used_are_named() {
    let named = |error: TlsError| match error {
        TlsError::Config { option, reason } => (option, reason),
        other => panic!("{other:?}"),
    };
    let server = |change: &dyn Fn(&mut Common)| {
        let mut spec = Setup::new().server;
        change(&mut spec.common);
        named(TlsConfig::server(spec).unwrap_err())
    };
    assert_eq!(server(&|common| common.identities.clear()).0, "cert");
    assert_eq!(
        server(&|common| common.ciphers = Some("nonsense".into())).0,
        "ciphers"
    );
    assert_eq!(
        server(&|common| common.alpn = vec![Vec::new()]).0,
        "alpn_protocols"
    );
    assert_eq!(
        server(&|common| common.alpn = vec![vec![b'x'; 256]]).0,
        "alpn_protocols"
    );
    let nowhere = server(&|common| common.key_log = Some("/nowhere/at/all".into()));
    assert_eq!(nowhere.0, "key_log_file");
    let crossed = server(&|common| {
        (common.min_version, common.max_version) = (Version::Tls13, Version::Tls12);
    });
    assert_eq!(crossed.0, "min_version");
    let (option, reason) = server(&|common| {
        let key = KeyPair::generate().unwrap().serialize_der();
        common.identities[0].key = PrivateKeyDer::try_from(key).unwrap();
    });
    assert_eq!(
        (option, &*reason),
        ("key", "does not belong to the certificate")
    );
    let mut client = ClientSpec::default();
    client.common.trust = Trust::Certificates(vec![CertificateDer::from(vec![1, 2, 3])]);
    assert_eq!(named(TlsConfig::client(client).unwrap_err()).0, "ca");
    assert!(Version::parse("min_version", "TLSv1.1").is_err());
    let config = TlsConfig::client(Setup::new().client).unwrap();
    for bad in ["", "a b", "-", "a..b"] {
        let error = Session::client(&config, bad, None).err().unwrap();
        assert_eq!(named(error).0, "server_name");
    }
}

#[test]
fn key_logs_are_written_in_the_usual_format() {
    let path = std::env::temp_dir().join(format!("mantou-keylog-{}", std::process::id()));
    let log = Some(path.clone());
    for setup in [Setup::new(), Setup::new().tls12()] {
        setup
            .both(|common| common.key_log.clone_from(&log))
            .pair()
            .connect();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    for label in [
        "CLIENT_RANDOM",
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_TRAFFIC_SECRET_0",
    ] {
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with(label))
            .collect();
        assert_eq!(lines.len(), 2);
        let parts: Vec<&str> = lines[0].split(' ').collect();
        assert_eq!((parts.len(), parts[1].len()), (3, 64));
        assert!(parts[2].len() >= 96 && lines[0] == lines[1]);
    }
}

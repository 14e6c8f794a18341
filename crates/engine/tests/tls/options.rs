//! Options that show at the peer, or that cannot be used.

use mantou_engine::tls::{
    CertificateDer, ClientSpec, Common, PrivateKeyDer, ServerSpec, Session, TlsConfig, TlsError,
    Trust, Version,
};
use rcgen::KeyPair;

use crate::parties::{Pair, Setup, authority, issue, params, trust};

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
        let error = Session::client(&config, Some(bad), None).err().unwrap();
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

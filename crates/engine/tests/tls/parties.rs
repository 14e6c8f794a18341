//! Certificates, and two sessions that talk to each other.

use std::sync::Arc;

use mantou_engine::tls::{
    ClientSpec, Common, Identity, PrivateKeyDer, ServerSpec, Session, TlsConfig, TlsError, Trust,
    Version,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

pub type Issuer = CertifiedIssuer<'static, KeyPair>;

pub fn authority(name: &str) -> Issuer {
    CertifiedIssuer::self_signed(authority_params(name), KeyPair::generate().unwrap()).unwrap()
}

pub fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params
}

pub fn issue(params: &CertificateParams, issuer: &Issuer) -> Identity {
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, issuer).unwrap();
    Identity {
        chain: vec![cert.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    }
}

pub fn trust(issuer: &Issuer) -> Trust {
    Trust::Certificates(vec![issuer.der().clone()])
}

pub struct Setup {
    pub client: ClientSpec,
    pub server: ServerSpec,
    pub name: &'static str,
}

impl Setup {
    /// A server that its client trusts.
    pub fn new() -> Self {
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

    pub fn both(mut self, change: impl Fn(&mut Common)) -> Self {
        change(&mut self.client.common);
        change(&mut self.server.common);
        self
    }

    pub fn tls12(self) -> Self {
        self.both(|common| common.max_version = Version::Tls12)
    }

    pub fn pair(self) -> Pair {
        let client = TlsConfig::client(self.client).unwrap();
        let server = TlsConfig::server(self.server).unwrap();
        Pair::new(&client, &server, self.name)
    }
}

pub struct Pair {
    pub client: Session,
    pub server: Session,
    pub at_client: Vec<u8>,
    pub at_server: Vec<u8>,
}

impl Pair {
    pub fn new(client: &Arc<TlsConfig>, server: &Arc<TlsConfig>, name: &str) -> Self {
        Self {
            client: Session::client(client, Some(name), None).unwrap(),
            server: Session::server(server).unwrap(),
            at_client: Vec::new(),
            at_server: Vec::new(),
        }
    }

    /// Carries what both have to say until nobody has.
    pub fn carry(&mut self, piece: usize) -> (Result<(), TlsError>, Result<(), TlsError>) {
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

    pub fn connect(mut self) -> Self {
        assert_eq!(self.carry(usize::MAX), (Ok(()), Ok(())));
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        self
    }

    pub fn check_echo(&mut self) {
        for text in [&b"ping"[..], b"pong"] {
            assert_eq!(self.client_sends(text), text);
            assert_eq!(self.server_sends(text), text);
        }
    }

    pub fn client_sends(&mut self, data: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        assert_eq!(self.client.seal(data, &mut wire), Ok(data.len()));
        let mut plain = Vec::new();
        self.server.feed(&mut wire, &mut plain).unwrap();
        plain
    }

    pub fn server_sends(&mut self, data: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        assert_eq!(self.server.seal(data, &mut wire), Ok(data.len()));
        let mut plain = Vec::new();
        self.client.feed(&mut wire, &mut plain).unwrap();
        plain
    }
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0u8..251).cycle().take(len).collect()
}

//! TLS sessions, fed what is no TLS and what nearly is.

use std::sync::{Arc, LazyLock};

use mantou_engine::tls::{
    ClientSpec, Identity, PrivateKeyDer, ServerSpec, Session, TlsConfig, TlsError, Trust, Version,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::Script;

/// What each side has to say once it may.
const WORDS: &[u8] = b"the quick brown fox jumps over the lazy dog";

struct Parties {
    client: Arc<TlsConfig>,
    server: Arc<TlsConfig>,
}

/// With TLS 1.3, and with 1.2 only; made once, because keys take long.
static PARTIES: LazyLock<[Parties; 2]> = LazyLock::new(|| {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    [Version::Tls13, Version::Tls12].map(|version| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let mut client = ClientSpec::default();
        client.common.trust = Trust::Certificates(vec![ca.der().clone()]);
        client.common.max_version = version;
        let mut server = ServerSpec::default();
        server.common.max_version = version;
        server.common.identities = vec![Identity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }];
        Parties {
            client: TlsConfig::client(client).unwrap(),
            server: TlsConfig::server(server).unwrap(),
        }
    })
});

/// The bytes as the first that a peer sends, in pieces.
pub fn bytes(data: &[u8]) {
    let mut script = Script(data);
    let way = script.byte();
    let piece = usize::from(script.byte()) + 1;
    let parties = &PARTIES[usize::from(way & 1)];
    let session = if way & 2 == 0 {
        Session::server(&parties.server)
    } else {
        Session::client(&parties.client, Some("a.test"), None)
    };
    let mut party = Party::new(session.unwrap());
    for part in script.0.chunks(piece) {
        party.hears(part);
    }
    party.ends();
    // Nobody has the keys for anything to be said.
    assert!(party.plain.is_empty());
}

/// A handshake and words in both directions, of which something is changed, cut, doubled or dropped
/// on the way.
pub fn handshakes(data: &[u8]) {
    let mut script = Script(data);
    let parties = &PARTIES[usize::from(script.byte() & 1)];
    let client = Session::client(&parties.client, Some("a.test"), None);
    let mut client = Party::new(client.unwrap());
    let mut server = Party::new(Session::server(&parties.server).unwrap());
    for _ in 0..8 {
        client.speaks();
        server.speaks();
        let (up, down) = (client.says(), server.says());
        if up.is_empty() && down.is_empty() {
            break;
        }
        server.hears(&changed(up, &mut script));
        client.hears(&changed(down, &mut script));
    }
    client.ends();
    server.ends();
    // Whatever happened on the way: who hears something hears what was said, from its beginning.
    for party in [&client, &server] {
        let said = WORDS.repeat(8);
        assert!(said.starts_with(&party.plain), "heard {:?}", party.plain);
    }
}

/// One side of a connection, and what it has heard.
struct Party {
    session: Session,
    plain: Vec<u8>,
    error: Option<TlsError>,
    output: Vec<u8>,
}

impl Party {
    fn new(session: Session) -> Self {
        Self {
            session,
            plain: Vec::new(),
            error: None,
            output: Vec::new(),
        }
    }

    fn hears(&mut self, wire: &[u8]) {
        let before = self.plain.len();
        let mut wire = wire.to_vec();
        let result = self.session.feed(&mut wire, &mut self.plain);
        if let Some(error) = &self.error {
            assert_eq!(result.as_ref().err(), Some(error), "it came back to life");
            assert_eq!(self.plain.len(), before);
        }
        self.error = result.err();
    }

    fn speaks(&mut self) {
        if !self.session.is_handshaking() {
            let sealed = self.session.seal(WORDS, &mut self.output);
            assert!(sealed.is_ok() || self.error.is_some() || self.session.peer_closed());
        }
    }

    fn says(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        self.session.take_output(&mut said);
        said.append(&mut self.output);
        said
    }

    fn ends(&mut self) {
        let _ = self.session.eof();
        self.session.close_notify(&mut self.output);
    }
}

/// What becomes of a flight under way: nothing, if the script is over or says so.
fn changed(mut flight: Vec<u8>, script: &mut Script<'_>) -> Vec<u8> {
    while !script.is_over() && !flight.is_empty() {
        let action = script.byte();
        let place = script.number() % flight.len();
        match action % 8 {
            0 => flight[place] = script.byte(),
            1 => flight[place] ^= 1 << (script.byte() % 8),
            2 => flight.insert(place, script.byte()),
            3 => {
                flight.remove(place);
            }
            4 => flight.truncate(place),
            5 => flight = [&flight[..place], &flight[..]].concat(),
            6 => flight.rotate_left(place),
            _ => break,
        }
    }
    flight
}

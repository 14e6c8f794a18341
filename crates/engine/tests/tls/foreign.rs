//! Certificates that somebody outside the engine judges.

use std::sync::{Arc, Mutex};

use mantou_engine::tls::{
    Authorization, ClientAuth, ForeignJudge, Refusal, Session, TlsError, Trust,
};

use crate::parties::{Setup, authority, issue, params};

/// Refuses with an alert, if it has one; remembers what it was asked.
#[derive(Debug, Default)]
struct Judge {
    alert: Option<u8>,
    asked: Mutex<Vec<Vec<Vec<u8>>>>,
}

impl ForeignJudge for Judge {
    fn judge(&self, chain: &[&[u8]]) -> Result<(), Refusal> {
        let chain = chain.iter().map(|der| der.to_vec()).collect();
        self.asked.lock().unwrap().push(chain);
        match self.alert {
            None => Ok(()),
            Some(alert) => Err(Refusal {
                alert,
                message: "not today".into(),
            }),
        }
    }
}

fn judge(alert: Option<u8>) -> (Arc<Judge>, Trust) {
    let judge = Arc::new(Judge {
        alert,
        ..Judge::default()
    });
    (judge.clone(), Trust::Foreign(judge))
}

#[test]
fn what_the_judge_says_counts_and_the_alert_is_its_own() {
    for (alert, words) in [
        (40, "sslv3 alert handshake failure"),
        (42, "sslv3 alert bad certificate"),
        (43, "sslv3 alert unsupported certificate"),
        (44, "sslv3 alert certificate revoked"),
        (45, "sslv3 alert certificate expired"),
        (46, "sslv3 alert certificate unknown"),
        (48, "tlsv1 alert unknown ca"),
        (51, "tlsv1 alert decrypt error"),
        // Not among those that go with a certificate.
        (80, "sslv3 alert certificate unknown"),
    ] {
        for tls12 in [false, true] {
            let mut setup = Setup::new();
            setup.client.common.trust = judge(Some(alert)).1;
            let setup = if tls12 { setup.tls12() } else { setup };
            let (client, server) = setup.pair().carry(usize::MAX);
            assert!(client.is_err());
            assert_eq!(server.unwrap_err().to_string(), words);
        }
    }
}

#[test]
fn the_judge_of_a_client_sees_the_whole_chain_and_nobody_else_is_asked() {
    let stranger = authority("unknown to everybody");
    let mut shown = issue(&params(&["elsewhere.test"]), &stranger);
    shown.chain.push(stranger.der().clone());
    let chain: Vec<Vec<u8>> = shown.chain.iter().map(|der| der.to_vec()).collect();
    let (judge, trust) = judge(None);
    let mut setup = Setup::new();
    setup.server.common.identities = vec![shown];
    setup.client.common.trust = trust;
    let pair = setup.pair().connect();
    assert_eq!(pair.client.authorization(), Authorization::Passed);
    assert_eq!(*judge.asked.lock().unwrap(), [chain]);
}

#[test]
fn who_does_not_verify_asks_no_judge() {
    let (judge, trust) = judge(Some(48));
    let mut setup = Setup::new();
    setup.client.common.trust = trust;
    setup.client.verify = false;
    let pair = setup.pair().connect();
    assert_eq!(pair.client.authorization(), Authorization::None);
    assert!(judge.asked.lock().unwrap().is_empty());
}

#[test]
fn a_server_lets_in_who_shows_nothing_but_not_who_is_refused() {
    let own = authority("of the client");
    let setup = |alert, shows: bool| {
        let mut setup = Setup::new();
        setup.server.client_auth = ClientAuth::Verify;
        setup.server.common.trust = judge(alert).1;
        if shows {
            setup.client.common.identities = vec![issue(&params(&["client"]), &own)];
        }
        setup
    };
    let authorized = |session: &Session| session.authorization() == Authorization::Passed;
    assert!(!authorized(&setup(Some(48), false).pair().connect().server));
    assert!(authorized(&setup(None, true).pair().connect().server));
    let (client, server) = setup(Some(48), true).pair().carry(usize::MAX);
    assert!(matches!(server, Err(TlsError::Verification(error)) if error.message == "not today"));
    assert_eq!(client.unwrap_err().to_string(), "tlsv1 alert unknown ca");
}

#[test]
fn without_a_name_none_is_asked_for() {
    let mut setup = Setup::new();
    setup.client.common.trust = judge(None).1;
    let client = mantou_engine::tls::TlsConfig::client(setup.client).unwrap();
    let server = mantou_engine::tls::TlsConfig::server(setup.server).unwrap();
    let mut pair = crate::parties::Pair::new(&client, &server, "a.test");
    pair.client = Session::client(&client, None, None).unwrap();
    let pair = pair.connect();
    assert_eq!(pair.server.server_name(), None);
    assert_eq!(pair.client.server_name(), None);
}

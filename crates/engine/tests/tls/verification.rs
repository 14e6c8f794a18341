//! Who is trusted.

use mantou_engine::tls::{
    Authorization, ClientAuth, ClientSpec, Identity, PrivateKeyDer, ServerSpec, Session, TlsConfig,
    TlsError, Trust, VerifyKind, Version, revocation_lists,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

use crate::parties::{Issuer, Pair, Setup, authority, issue, params, trust};

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
            client.common.crls = revocation_lists(crl.as_bytes()).unwrap();
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
    setup.server.common.crls = revocation_lists(revoking(&ca, 7, 3000).as_bytes()).unwrap();
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
        let alert = if tls12 {
            "sslv3 alert handshake failure"
        } else {
            "tlsv13 alert certificate required"
        };
        assert_eq!(client.unwrap_err().to_string(), alert);
        let (client, server) = pair(ClientAuth::Require, Some(&other)).carry(usize::MAX);
        assert!(matches!(server, Err(TlsError::Verification(_))));
        assert_eq!(client.unwrap_err().to_string(), "tlsv1 alert unknown ca");
    }
}

//! CPU time and memory of TLS sessions, in memory: `cargo run --release --example tls_speed`.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mantou_engine::tls::{
    CertificateDer, ClientSpec, Identity, PrivateKeyDer, ServerSpec, Session, TlsConfig, Trust,
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

struct Made {
    cert: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Made {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["a.test".to_string()]).unwrap();
        Self {
            cert: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
        }
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }

    fn configs(&self) -> (Arc<TlsConfig>, Arc<TlsConfig>) {
        let mut client = ClientSpec::default();
        client.common.trust = Trust::Certificates(vec![self.cert.clone()]);
        let mut server = ServerSpec::default();
        server.common.identities = vec![Identity {
            chain: vec![self.cert.clone()],
            key: self.key(),
        }];
        (
            TlsConfig::client(client).unwrap(),
            TlsConfig::server(server).unwrap(),
        )
    }
}

/// Connects two sessions. Returns them and the time of the server.
fn connect(client: &Arc<TlsConfig>, server: &Arc<TlsConfig>) -> (Session, Session, Duration) {
    let mut plain = Vec::new();
    let mut time = Duration::ZERO;
    let mut client = Session::client(client, Some("a.test"), None).unwrap();
    let start = Instant::now();
    let mut server = Session::server(server).unwrap();
    time += start.elapsed();
    loop {
        let mut wire = Vec::new();
        client.take_output(&mut wire);
        let start = Instant::now();
        server.feed(&mut wire, &mut plain).unwrap();
        let mut wire = Vec::new();
        server.take_output(&mut wire);
        time += start.elapsed();
        if wire.is_empty() {
            return (client, server, time);
        }
        client.feed(&mut wire, &mut plain).unwrap();
    }
}

fn echo(made: &Made, size: usize, rounds: u32) -> f64 {
    let (client, server) = made.configs();
    let (mut client, mut server, _) = connect(&client, &server);
    let data = vec![7u8; size];
    let (mut up, mut plain, mut back) = (Vec::new(), Vec::new(), Vec::new());
    let mut down = vec![0; size + (size / 16_384 + 1) * 30];
    let mut time = Duration::ZERO;
    for _ in 0..rounds {
        up.clear();
        client.seal(&data, &mut up).unwrap();
        let start = Instant::now();
        plain.clear();
        server.feed(&mut up, &mut plain).unwrap();
        let sealed = server.seal_into(&plain, &mut down).unwrap();
        time += start.elapsed();
        back.clear();
        client.feed(&mut down[..sealed.written], &mut back).unwrap();
        assert_eq!(back.len(), size);
    }
    time.as_nanos() as f64 / f64::from(rounds)
}

/// The same with rustls' buffered connections.
fn echo_buffered(made: &Made, size: usize, rounds: u32) -> f64 {
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.clone()).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.clone()], made.key())
        .unwrap();
    let name = "a.test".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    client.set_buffer_limit(None);
    server.set_buffer_limit(None);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let (mut plain, mut back) = (vec![0; size], vec![0; size]);
    let data = vec![7u8; size];
    let mut time = Duration::ZERO;
    for round in 0..rounds + 4 {
        let ready = !client.is_handshaking() && !server.is_handshaking();
        if ready {
            client.writer().write_all(&data).unwrap();
        }
        up.clear();
        while client.wants_write() {
            client.write_tls(&mut up).unwrap();
        }
        let start = Instant::now();
        let (mut rest, mut got) = (&up[..], 0);
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            let n = server.process_new_packets().unwrap();
            let n = n.plaintext_bytes_to_read();
            server
                .reader()
                .read_exact(&mut plain[got..got + n])
                .unwrap();
            got += n;
        }
        server.writer().write_all(&plain[..got]).unwrap();
        down.clear();
        while server.wants_write() {
            server.write_tls(&mut down).unwrap();
        }
        if round >= 4 {
            time += start.elapsed();
        }
        let (mut rest, mut got) = (&down[..], 0);
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            let n = client.process_new_packets().unwrap();
            let n = n.plaintext_bytes_to_read();
            client.reader().read_exact(&mut back[got..got + n]).unwrap();
            got += n;
        }
        assert!(!ready || got == size);
    }
    time.as_nanos() as f64 / f64::from(rounds)
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn main() {
    let made = Made::new();
    println!("server's time for an echo over TLS 1.3, AES-256-GCM, in ns");
    println!(
        "{:>8} {:>10} {:>10} {:>6}",
        "bytes", "session", "buffered", "ratio"
    );
    for (size, rounds) in [
        (64, 200_000),
        (1024, 100_000),
        (16_384, 20_000),
        (65_536, 5_000),
        (262_144, 1_000),
    ] {
        let pairs: Vec<(f64, f64)> = (0..15)
            .map(|_| {
                (
                    echo(&made, size, rounds / 15),
                    echo_buffered(&made, size, rounds / 15),
                )
            })
            .collect();
        // The least disturbed run of each.
        let best =
            |pick: fn(&(f64, f64)) -> f64| pairs.iter().map(pick).fold(f64::INFINITY, f64::min);
        let (ours, theirs) = (best(|pair| pair.0), best(|pair| pair.1));
        println!(
            "{size:>8} {ours:>10.0} {theirs:>10.0} {:>6.2}",
            ours / theirs
        );
    }

    let (client, server) = made.configs();
    let mut time = Duration::ZERO;
    for _ in 0..1_000 {
        time += connect(&client, &server).2;
    }
    println!("full handshake, server: {} us", time.as_micros() / 1_000);

    for (who, keep_client) in [("server", false), ("client", true)] {
        let before = resident();
        let mut kept = Vec::new();
        for _ in 0..5_000 {
            let (client, server, _) = connect(&client, &server);
            kept.push(if keep_client { client } else { server });
        }
        let each = resident().saturating_sub(before) / kept.len();
        println!("idle {who} session: {each} bytes");
        std::mem::forget(kept);
    }
}

use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let c = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(c.cert.der().clone()).unwrap();
    let key = PrivateKeyDer::try_from(c.signing_key.serialize_der()).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![c.cert.der().clone()], key)
        .unwrap();
    (Arc::new(client), Arc::new(server))
}

macro_rules! drive {
    ($name:ident, $t:ty) => {
        fn $name(c: &mut $t, input: &mut Vec<u8>, plain: &mut Vec<u8>, out: &mut Vec<u8>) {
            let mut at = 0;
            loop {
                let UnbufferedStatus { discard, state } = c.process_tls_records(&mut input[at..]);
                let mut stop = false;
                match state.unwrap() {
                    ConnectionState::ReadTraffic(mut t) => {
                        while let Some(r) = t.next_record() {
                            plain.extend_from_slice(r.unwrap().payload);
                        }
                    }
                    ConnectionState::EncodeTlsData(mut e) => {
                        let n = out.len();
                        out.resize(n + 20000, 0);
                        let w = e.encode(&mut out[n..]).unwrap();
                        out.truncate(n + w);
                    }
                    ConnectionState::TransmitTlsData(t) => t.done(),
                    _ => stop = true,
                }
                at += discard;
                if stop {
                    break;
                }
            }
            input.drain(..at);
        }
    };
}
drive!(drive_c, UnbufferedClientConnection);
drive!(drive_s, UnbufferedServerConnection);

fn unbuffered(size: usize, rounds: usize) {
    let (cc, sc) = configs();
    let mut c =
        UnbufferedClientConnection::new(cc, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut s = UnbufferedServerConnection::new(sc).unwrap();
    let (mut a, mut b, mut p) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..6 {
        drive_c(&mut c, &mut b, &mut p, &mut a);
        drive_s(&mut s, &mut a, &mut p, &mut b);
    }
    assert!(!s.is_handshaking());
    let data = vec![7u8; size];
    let mut client_time = 0;
    let mut server_time = 0;
    for _ in 0..rounds {
        let t = Instant::now();
        a.resize(size + 22 * (size / 16384 + 2), 0);
        if let ConnectionState::WriteTraffic(mut w) = c.process_tls_records(&mut []).state.unwrap()
        {
            let n = w.encrypt(&data, &mut a).unwrap();
            a.truncate(n);
        }
        client_time += t.elapsed().as_nanos();
        let t = Instant::now();
        p.clear();
        drive_s(&mut s, &mut a, &mut p, &mut b);
        b.resize(size + 22 * (size / 16384 + 2), 0);
        if let ConnectionState::WriteTraffic(mut w) = s.process_tls_records(&mut []).state.unwrap()
        {
            let n = w.encrypt(&p, &mut b).unwrap();
            b.truncate(n);
        }
        server_time += t.elapsed().as_nanos();
        assert_eq!(p.len(), size);
        p.clear();
        drive_c(&mut c, &mut b, &mut p, &mut a);
        assert_eq!(p.len(), size);
    }
    println!(
        "unbuffered {size:7}: echo {:9.0} ns, encrypt only {:9.0}",
        server_time as f64 / rounds as f64,
        client_time as f64 / rounds as f64
    );
}

fn buffered(size: usize, rounds: usize) {
    let (cc, sc) = configs();
    let mut c = ClientConnection::new(cc, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut s = ServerConnection::new(sc).unwrap();
    s.set_buffer_limit(None);
    c.set_buffer_limit(None);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        a.clear();
        while c.wants_write() {
            c.write_tls(&mut a).unwrap();
        }
        let mut r = &a[..];
        while !r.is_empty() {
            s.read_tls(&mut r).unwrap();
            s.process_new_packets().unwrap();
        }
        b.clear();
        while s.wants_write() {
            s.write_tls(&mut b).unwrap();
        }
        let mut r = &b[..];
        while !r.is_empty() {
            c.read_tls(&mut r).unwrap();
            c.process_new_packets().unwrap();
        }
    }
    let data = vec![7u8; size];
    let mut p = vec![0u8; size];
    let mut server_time = 0;
    for _ in 0..rounds {
        c.writer().write_all(&data).unwrap();
        a.clear();
        while c.wants_write() {
            c.write_tls(&mut a).unwrap();
        }
        let t = Instant::now();
        let mut r = &a[..];
        let mut got = 0;
        while !r.is_empty() {
            s.read_tls(&mut r).unwrap();
            let st = s.process_new_packets().unwrap();
            let n = st.plaintext_bytes_to_read();
            if n > 0 {
                s.reader().read_exact(&mut p[got..got + n]).unwrap();
                got += n;
            }
        }
        s.writer().write_all(&p).unwrap();
        b.clear();
        while s.wants_write() {
            s.write_tls(&mut b).unwrap();
        }
        server_time += t.elapsed().as_nanos();
        let mut r = &b[..];
        while !r.is_empty() {
            c.read_tls(&mut r).unwrap();
            let n = c.process_new_packets().unwrap().plaintext_bytes_to_read();
            if n > 0 {
                c.reader().read_exact(&mut p[..n]).unwrap();
            }
        }
    }
    println!(
        "buffered   {size:7}: echo {:9.0} ns",
        server_time as f64 / rounds as f64
    );
}

fn raw(size: usize, rounds: usize) {
    use aws_lc_rs::aead::*;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[1; 32]).unwrap());
    let tkey = TlsRecordSealingKey::new(&AES_256_GCM, TlsProtocolId::TLS13, &[1; 32]).unwrap();
    let _ = tkey;
    let mut buf = vec![0u8; size + 17];
    let t = Instant::now();
    for i in 0..rounds {
        let mut n = [0u8; 12];
        n[4..].copy_from_slice(&(i as u64).to_be_bytes());
        for chunk in buf.chunks_mut(16384) {
            let l = chunk.len();
            let tag = key
                .seal_in_place_separate_tag(
                    Nonce::assume_unique_for_key(n),
                    Aad::from([0u8; 5]),
                    &mut chunk[..l],
                )
                .unwrap();
            let _ = black_box(tag);
        }
    }
    println!(
        "raw seal   {size:7}: {:9.0} ns",
        t.elapsed().as_nanos() as f64 / rounds as f64
    );
}

fn main() {
    for _ in 0..2 {
        for (size, rounds) in [
            (64, 200_000),
            (1024, 100_000),
            (16384, 20_000),
            (262_144, 1_000),
        ] {
            raw(size, rounds);
            unbuffered(size, rounds);
            buffered(size, rounds);
        }
    }
}

//! PROXY headers: the specification's own, malformed ones, and whatever else may come.
#![allow(clippy::unwrap_used)]

use mantou_engine::proxy::{Addresses, Command, Header, Malformed, Scan, Transport, Version, scan};

mod chance;
mod v1;
mod v2;
mod writing;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Behind a header, in the same segment.
const REST: &[u8] = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";

fn v2(bytes: &[u8]) -> Vec<u8> {
    [SIGNATURE, bytes].concat()
}

fn whole(bytes: &[u8]) -> Header {
    match scan(bytes) {
        Ok(Scan::Header(header, len)) if len == bytes.len() => *header,
        other => panic!("{other:?} of {bytes:?}"),
    }
}

fn refusal(bytes: &[u8]) -> &'static str {
    match scan(bytes) {
        Err(Malformed(why)) => why,
        other => panic!("{other:?} of {}", bytes.escape_ascii()),
    }
}

fn tcp(version: Version, source: &str, destination: &str) -> Header {
    Header {
        command: Command::Proxy,
        transport: Transport::Stream,
        addresses: Addresses::Ip {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        },
        ..Header::local(version)
    }
}

fn unknown() -> Header {
    Header {
        command: Command::Proxy,
        ..Header::local(Version::V1)
    }
}

//! Version 1: a line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Addresses, Command, Header, Malformed, Scan, Transport, Version};

pub const SIGNATURE: &[u8] = b"PROXY ";

/// With its CRLF.
const LONGEST: usize = 107;

/// Of bytes that begin as a line of this version does, as far as they go.
pub fn scan(bytes: &[u8]) -> Result<Scan, Malformed> {
    let line = &bytes[..bytes.len().min(LONGEST)];
    match line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if line[end] == b'\r' => match line.get(end + 1) {
            Some(b'\n') => {
                let header = parse(&line[SIGNATURE.len()..end])?;
                Ok(Scan::Header(Box::new(header), end + 2))
            }
            None if line.len() < LONGEST => Ok(Scan::Partial { signed: true }),
            None => Err(Malformed("its line is longer than 107 bytes")),
            Some(_) => Err(Malformed("a CR in its line is not followed by LF")),
        },
        Some(_) => Err(Malformed("its line does not end with CRLF")),
        None if line.len() < LONGEST => Ok(Scan::Partial {
            signed: line.len() >= SIGNATURE.len(),
        }),
        None => Err(Malformed("its line is longer than 107 bytes")),
    }
}

pub fn write(header: &Header) -> Result<Vec<u8>, Malformed> {
    if !header.fields.is_empty() || header.tls.is_some() || header.checksum {
        return Err(Malformed("version 1 has room for addresses only"));
    }
    if header.transport == Transport::Datagram {
        return Err(Malformed("version 1 knows no datagrams"));
    }
    match (header.command, &header.addresses) {
        // The line says no more than that: neither version 1 nor its readers know of the difference.
        (Command::Local, _) | (_, Addresses::Unknown) => Ok(b"PROXY UNKNOWN\r\n".to_vec()),
        (
            Command::Proxy,
            Addresses::Ip {
                source,
                destination,
            },
        ) => {
            let family = if source.is_ipv4() { 4 } else { 6 };
            let line = format!(
                "PROXY TCP{family} {} {} {} {}\r\n",
                source.ip(),
                destination.ip(),
                source.port(),
                destination.port()
            );
            Ok(line.into_bytes())
        }
        (Command::Proxy, Addresses::Unix { .. }) => {
            Err(Malformed("version 1 knows no unix sockets"))
        }
    }
}

/// What is between the signature and the CRLF.
fn parse(rest: &[u8]) -> Result<Header, Malformed> {
    let mut header = Header {
        command: Command::Proxy,
        ..Header::local(Version::V1)
    };
    if let Some(ignored) = rest.strip_prefix(b"UNKNOWN")
        && matches!(ignored.first(), None | Some(b' '))
    {
        return Ok(header);
    }
    let text = std::str::from_utf8(rest).map_err(|_| Malformed("its line is not ASCII"))?;
    let mut words = text.split(' ');
    let mut next = || words.next().ok_or(Malformed("its line ends too early"));
    let family = next()?;
    let (source, destination) = (next()?, next()?);
    let address = match family {
        "TCP4" => address::<Ipv4Addr>,
        "TCP6" => address::<Ipv6Addr>,
        _ => return Err(Malformed("its family is none of TCP4, TCP6 and UNKNOWN")),
    };
    let (source, destination) = (address(source)?, address(destination)?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    if words.next().is_some() {
        return Err(Malformed("its line goes on behind the ports"));
    }
    header.transport = Transport::Stream;
    header.addresses = Addresses::Ip {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    Ok(header)
}

fn address<A: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, Malformed> {
    match text.parse::<A>() {
        Ok(address) => Ok(address.into()),
        Err(_) => Err(Malformed("an address is not one of its family")),
    }
}

/// Digits only, and none of them a leading zero.
fn port(text: &str) -> Result<u16, Malformed> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    match text.parse() {
        Ok(port) if canonical => Ok(port),
        _ => Err(Malformed("a port is not a number from 0 to 65535")),
    }
}

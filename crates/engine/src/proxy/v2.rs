//! Version 2: binary, with room for more than addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::checksum::crc32c;
use super::{
    Addresses, ClientTls, Command, Field, Header, LONGEST, Malformed, Scan, Transport, Version,
};

pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and transport, and the length of what follows.
const FIXED: usize = 16;

const IPV4: u8 = 1;
const IPV6: u8 = 2;
const UNIX: u8 = 3;
/// As `sockaddr_un` has it.
const PATH: usize = 108;

// The types of fields that mean something here.
const CHECKSUM: u8 = 0x03;
const PADDING: u8 = 0x04;
const UNIQUE_ID: u8 = 0x05;
const TLS: u8 = 0x20;

const LONGEST_UNIQUE_ID: usize = 128;

const CUT_OFF: Malformed = Malformed("a field is longer than what is left of it");

/// Of bytes that begin with this version's signature, as far as they go.
pub fn scan(bytes: &[u8]) -> Result<Scan, Malformed> {
    // What is wrong is said as soon as it has come.
    let command = match bytes.get(12) {
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        None => {
            return Ok(Scan::Partial {
                signed: bytes.len() >= SIGNATURE.len(),
            });
        }
        Some(other) if other >> 4 != 2 => return Err(Malformed("its version is not 2")),
        Some(_) => return Err(Malformed("its command is neither LOCAL nor PROXY")),
    };
    let Some(&[kind, high, low]) = bytes.get(13..FIXED) else {
        return Ok(Scan::Partial { signed: true });
    };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > LONGEST {
        return Err(Malformed("it is longer than 16 KiB"));
    }
    let Some(whole) = bytes.get(..len) else {
        return Ok(Scan::Partial { signed: true });
    };
    let header = match command {
        // What follows is to be ignored, whatever it is.
        Command::Local => Header::local(Version::V2),
        Command::Proxy => parse(kind, whole)?,
    };
    Ok(Scan::Header(Box::new(header), len))
}

pub fn write(header: &Header) -> Result<Vec<u8>, Malformed> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.push(match header.command {
        Command::Local => 0x20,
        Command::Proxy => 0x21,
    });
    let family = match &header.addresses {
        Addresses::Unknown => 0,
        Addresses::Ip { source, .. } if source.is_ipv4() => IPV4,
        Addresses::Ip { .. } => IPV6,
        Addresses::Unix { .. } => UNIX,
    };
    let known = family != 0;
    if known != (header.transport != Transport::Unspecified) {
        return Err(Malformed("addresses and a transport belong together"));
    }
    bytes.push(family << 4 | header.transport as u8);
    bytes.extend_from_slice(&[0; 2]);
    write_addresses(&header.addresses, &mut bytes)?;
    for field in &header.fields {
        if matches!(field.kind, CHECKSUM | PADDING | TLS) {
            return Err(Malformed("a field's type is one that has another place"));
        }
        check(field)?;
        write_field(field.kind, &field.value, &mut bytes)?;
    }
    if let Some(tls) = &header.tls {
        let mut value = vec![tls.client];
        value.extend_from_slice(&tls.verify.to_be_bytes());
        for field in &tls.fields {
            write_field(field.kind, &field.value, &mut value)?;
        }
        write_field(TLS, &value, &mut bytes)?;
    }
    if header.checksum {
        write_field(CHECKSUM, &[0; 4], &mut bytes)?;
    }
    if bytes.len() > LONGEST {
        return Err(Malformed("it is longer than 16 KiB"));
    }
    let len = u16::try_from(bytes.len() - FIXED).unwrap_or(u16::MAX);
    bytes[14..FIXED].copy_from_slice(&len.to_be_bytes());
    if header.checksum {
        let sum = crc32c(&bytes).to_be_bytes();
        let place = bytes.len() - sum.len();
        bytes[place..].copy_from_slice(&sum);
    }
    Ok(bytes)
}

fn write_addresses(addresses: &Addresses, bytes: &mut Vec<u8>) -> Result<(), Malformed> {
    match addresses {
        Addresses::Unknown => {}
        Addresses::Ip {
            source,
            destination,
        } => {
            for address in [source, destination] {
                match address.ip() {
                    IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
                }
            }
            for address in [source, destination] {
                bytes.extend_from_slice(&address.port().to_be_bytes());
            }
        }
        Addresses::Unix {
            source,
            destination,
        } => {
            for path in [source, destination] {
                let filling = PATH
                    .checked_sub(path.len())
                    .ok_or(Malformed("a path is longer than 108 bytes"))?;
                bytes.extend_from_slice(path);
                bytes.resize(bytes.len() + filling, 0);
            }
        }
    }
    Ok(())
}

fn write_field(kind: u8, value: &[u8], bytes: &mut Vec<u8>) -> Result<(), Malformed> {
    let len = u16::try_from(value.len()).map_err(|_| Malformed("it is longer than 16 KiB"))?;
    bytes.push(kind);
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(value);
    Ok(())
}

fn parse(kind: u8, whole: &[u8]) -> Result<Header, Malformed> {
    let transport = match (kind >> 4, kind & 15) {
        (0, 0) => Transport::Unspecified,
        (IPV4 | IPV6 | UNIX, 1) => Transport::Stream,
        (IPV4 | IPV6 | UNIX, 2) => Transport::Datagram,
        _ => return Err(Malformed("its family and transport are none of version 2")),
    };
    let mut rest = &whole[FIXED..];
    let mut header = Header {
        command: Command::Proxy,
        transport,
        addresses: take_addresses(kind >> 4, &mut rest)?,
        ..Header::local(Version::V2)
    };
    while !rest.is_empty() {
        let field = take_field(&mut rest)?;
        match field.kind {
            CHECKSUM => {
                if header.checksum {
                    return Err(Malformed("it has two checksums"));
                }
                check_sum(whole, whole.len() - rest.len(), &field)?;
                header.checksum = true;
            }
            PADDING => {}
            TLS if header.tls.is_none() => header.tls = Some(take_tls(&field.value)?),
            TLS => return Err(Malformed("it tells twice of the client's TLS")),
            _ => {
                check(&field)?;
                header.fields.push(field);
            }
        }
    }
    Ok(header)
}

fn take_addresses(family: u8, rest: &mut &[u8]) -> Result<Addresses, Malformed> {
    Ok(match family {
        0 => Addresses::Unknown,
        IPV4 => {
            let (source, destination) = (take::<4>(rest)?, take::<4>(rest)?);
            take_ports(Ipv4Addr::from(source), Ipv4Addr::from(destination), rest)?
        }
        IPV6 => {
            let (source, destination) = (take::<16>(rest)?, take::<16>(rest)?);
            take_ports(Ipv6Addr::from(source), Ipv6Addr::from(destination), rest)?
        }
        _ => Addresses::Unix {
            source: path(&take::<PATH>(rest)?),
            destination: path(&take::<PATH>(rest)?),
        },
    })
}

fn take_ports<A: Into<IpAddr>>(
    source: A,
    destination: A,
    rest: &mut &[u8],
) -> Result<Addresses, Malformed> {
    let source_port = u16::from_be_bytes(take(rest)?);
    let destination_port = u16::from_be_bytes(take(rest)?);
    Ok(Addresses::Ip {
        source: SocketAddr::new(source.into(), source_port),
        destination: SocketAddr::new(destination.into(), destination_port),
    })
}

/// Without what fills it up: an abstract name, too, may hold NULs but at its end.
fn path(filled: &[u8; PATH]) -> Vec<u8> {
    let end = filled.iter().rposition(|&byte| byte != 0);
    filled[..end.map_or(0, |last| last + 1)].to_vec()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let too_short = Malformed("it is too short for its addresses");
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(too_short)?;
    *rest = left;
    Ok(*taken)
}

fn take_field(rest: &mut &[u8]) -> Result<Field, Malformed> {
    let (&[kind, high, low], behind) = rest.split_first_chunk::<3>().ok_or(CUT_OFF)?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    let (value, left) = behind.split_at_checked(len).ok_or(CUT_OFF)?;
    *rest = left;
    Ok(Field {
        kind,
        value: value.to_vec(),
    })
}

fn take_tls(value: &[u8]) -> Result<ClientTls, Malformed> {
    let (&[client, verify @ ..], mut rest) = value
        .split_first_chunk::<5>()
        .ok_or(Malformed("what it tells of the client's TLS is too short"))?;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        fields.push(take_field(&mut rest)?);
    }
    Ok(ClientTls {
        client,
        verify: u32::from_be_bytes(verify),
        fields,
    })
}

/// The sum is that of the whole header with zeros in the place of the sum, which ends at `end`.
fn check_sum(whole: &[u8], end: usize, field: &Field) -> Result<(), Malformed> {
    let sum: [u8; 4] = field
        .value
        .as_slice()
        .try_into()
        .map_err(|_| Malformed("its checksum is not of 4 bytes"))?;
    let mut zeroed = whole.to_vec();
    zeroed[end - sum.len()..end].fill(0);
    if crc32c(&zeroed) == u32::from_be_bytes(sum) {
        Ok(())
    } else {
        Err(Malformed("its checksum is wrong"))
    }
}

fn check(field: &Field) -> Result<(), Malformed> {
    if field.kind == UNIQUE_ID && field.value.len() > LONGEST_UNIQUE_ID {
        return Err(Malformed("its unique ID is longer than 128 bytes"));
    }
    Ok(())
}

//! The PROXY protocol: what a proxy says before everything else, of the client behind it.
//!
//! Both versions of haproxy.org's `proxy-protocol.txt`, as values: nothing here reads or sends.
//! Whatever the bytes are, reading them neither panics nor takes more than `LONGEST` of them.

use std::net::SocketAddr;

mod checksum;
mod v1;
mod v2;

/// The longest header that is read or written. The specification has one of version 2 say up to
/// 64 KiB; this is what haproxy's own buffers take.
pub const LONGEST: usize = 16 * 1024;

/// What a header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub version: Version,
    pub command: Command,
    pub transport: Transport,
    pub addresses: Addresses,
    /// What is said besides, in the order of the wire; neither padding nor the checksum.
    pub fields: Vec<Field>,
    /// What is said of the client's TLS.
    pub tls: Option<ClientTls>,
    /// It carries a checksum, which was right, or is to be computed.
    pub checksum: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V1 = 1,
    V2 = 2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// The proxy speaks for itself: to see whether we are well, mostly.
    Local,
    /// It speaks for a client.
    Proxy,
}

/// How the client speaks to the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Unspecified = 0,
    Stream = 1,
    Datagram = 2,
}

/// Between whom the client's connection is; its side is the source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Addresses {
    Unknown,
    /// Both of the same family.
    Ip {
        source: SocketAddr,
        destination: SocketAddr,
    },
    /// Paths, without the NULs that fill them up.
    Unix {
        source: Vec<u8>,
        destination: Vec<u8>,
    },
}

/// One thing of version 2 that is said besides: type and value (TLV).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    pub kind: u8,
    pub value: Vec<u8>,
}

/// What a proxy that ends the client's TLS knows of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientTls {
    /// Bits: whether there is TLS, a certificate on this connection, one in this session.
    pub client: u8,
    /// 0 if the certificate was verified.
    pub verify: u32,
    pub fields: Vec<Field>,
}

/// What the first bytes of a connection are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scan {
    /// A header of so many bytes.
    Header(Box<Header>, usize),
    /// The beginning of one. Until it has been `signed` it may still turn out to be none.
    Partial { signed: bool },
    /// Something else.
    Absent,
}

/// What is wrong with a header: of those read, what its sender did; of those to write, what cannot
/// be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub &'static str);

/// Looks at what has come. The same bytes and more give the same answer, or a later one.
pub fn scan(bytes: &[u8]) -> Result<Scan, Malformed> {
    let begins = |signature: &[u8]| {
        let n = bytes.len().min(signature.len());
        bytes[..n] == signature[..n]
    };
    if begins(v2::SIGNATURE) {
        v2::scan(bytes)
    } else if begins(v1::SIGNATURE) {
        v1::scan(bytes)
    } else {
        Ok(Scan::Absent)
    }
}

impl Header {
    /// A header of a proxy that speaks for itself.
    pub fn local(version: Version) -> Self {
        Self {
            version,
            command: Command::Local,
            transport: Transport::Unspecified,
            addresses: Addresses::Unknown,
            fields: Vec::new(),
            tls: None,
            checksum: false,
        }
    }

    /// Who is at the other end, behind this peer; `None` for a unix socket.
    pub fn client(&self, peer: Option<SocketAddr>) -> Option<SocketAddr> {
        match self.addresses {
            Addresses::Unknown => peer,
            Addresses::Ip { source, .. } => Some(source),
            Addresses::Unix { .. } => None,
        }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Malformed> {
        if let Addresses::Ip {
            source,
            destination,
        } = &self.addresses
            && source.is_ipv4() != destination.is_ipv4()
        {
            return Err(Malformed("its addresses are not of one family"));
        }
        match self.version {
            Version::V1 => v1::write(self),
            Version::V2 => v2::write(self),
        }
    }
}

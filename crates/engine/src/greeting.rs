//! An accepted connection that is still to say for whom it comes, in the PROXY protocol.
//!
//! What it sends is looked at and left in the kernel until all of its header has come; then exactly
//! that is taken out. So nothing of what follows, TLS or not, is ever in another's hands.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::error::DEAD;
use crate::proxy::{Header, LONGEST, Malformed, Scan, scan};
use crate::stream::Settings;
use crate::sys::net;
use crate::timers::Millis;

/// From whom a listener takes a header.
#[derive(Debug)]
pub struct ProxyPolicy {
    /// Who sends none is not served.
    pub required: bool,
    /// Whose headers are believed; `None` for everybody's.
    pub trusted: Option<Vec<Network>>,
}

/// Addresses with the same first bits. Those of IPv6 are none of IPv4.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a connection was not let in.
#[derive(Debug)]
pub enum ProxyError {
    Malformed(Malformed),
    /// It began with something else.
    Missing,
    /// It ended within its header.
    CutOff,
    Late,
    /// A header of somebody who is not to send one.
    Untrusted,
    /// There are enough connections of the host that it names.
    TooMany,
    /// We closed it meanwhile.
    Cancelled,
    /// The kernel gave its peer up for `dead_after`.
    Dead,
    Io(io::Error),
}

pub struct Greeting {
    fd: OwnedFd,
    pub remote: Option<SocketAddr>,
    pub settings: Arc<Settings>,
    policy: Arc<ProxyPolicy>,
    header: Option<Box<Header>>,
    /// When it will have taken too long; `Millis::MAX` for never.
    pub deadline: Millis,
    /// The owner knows how it went.
    pub told: bool,
}

impl Greeting {
    pub fn new(
        fd: OwnedFd,
        remote: Option<SocketAddr>,
        settings: Arc<Settings>,
        policy: Arc<ProxyPolicy>,
    ) -> Self {
        Self {
            fd,
            remote,
            settings,
            policy,
            header: None,
            deadline: Millis::MAX,
            told: false,
        }
    }

    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub fn is_due(&self, at: Millis) -> bool {
        self.deadline == at && !self.told
    }

    /// Whether whatever it sends will be refused.
    pub fn is_hopeless(&self) -> bool {
        self.policy.required && !self.policy.trusts(self.remote)
    }

    /// Looks at what has come; `None` if that is too little to tell.
    pub fn look(&mut self, buffer: &mut [u8]) -> Option<Result<(), ProxyError>> {
        let buffer = &mut buffer[..LONGEST];
        let mut ended = false;
        loop {
            let n = match net::peek(self.fd.as_fd(), buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Also of who may come without a header: the kernel tells of it only once.
                Err(error) => return Some(Err(self.broken(error))),
            };
            match scan(&buffer[..n]) {
                Ok(Scan::Header(header, len)) => {
                    return Some(self.take(header, &mut buffer[..len]));
                }
                Ok(Scan::Partial { signed }) if ended => {
                    return Some(self.without_header(signed, ProxyError::CutOff));
                }
                // Looked at once more: what came before its end has come by now.
                Ok(Scan::Partial { .. }) if net::has_finished(self.fd.as_fd()) => ended = true,
                Ok(Scan::Partial { .. }) => return None,
                Ok(Scan::Absent) => return Some(self.without_header(false, ProxyError::Missing)),
                Err(malformed) => return Some(Err(ProxyError::Malformed(malformed))),
            }
        }
    }

    /// It took too long.
    pub fn on_deadline(&mut self, buffer: &mut [u8]) -> Result<(), ProxyError> {
        let buffer = &mut buffer[..LONGEST];
        let n = net::peek(self.fd.as_fd(), buffer).unwrap_or(0);
        let signed = matches!(scan(&buffer[..n]), Ok(Scan::Partial { signed: true }));
        self.without_header(signed, ProxyError::Late)
    }

    fn take(&mut self, header: Box<Header>, place: &mut [u8]) -> Result<(), ProxyError> {
        if !self.policy.trusts(self.remote) {
            return Err(ProxyError::Untrusted);
        }
        let mut taken = 0;
        while taken < place.len() {
            match net::recv(self.fd.as_fd(), &mut place[taken..]) {
                Ok(n @ 1..) => taken += n,
                // Somebody else reads from the same socket.
                Ok(_) => return Err(ProxyError::CutOff),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ProxyError::CutOff);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ProxyError::Io(error)),
            }
        }
        self.header = Some(header);
        Ok(())
    }

    fn broken(&self, error: io::Error) -> ProxyError {
        if self.settings.is_death(&error) {
            ProxyError::Dead
        } else {
            ProxyError::Io(error)
        }
    }

    fn without_header(&self, signed: bool, error: ProxyError) -> Result<(), ProxyError> {
        if signed || self.policy.required {
            Err(error)
        } else {
            Ok(())
        }
    }

    /// For whom it comes.
    pub fn client(&self) -> Option<SocketAddr> {
        let header = self.header.as_ref();
        header.map_or(self.remote, |header| header.client(self.remote))
    }

    pub fn into_parts(self) -> (OwnedFd, Option<Box<Header>>) {
        (self.fd, self.header)
    }
}

impl ProxyPolicy {
    fn trusts(&self, remote: Option<SocketAddr>) -> bool {
        match (&self.trusted, remote) {
            (Some(networks), Some(remote)) => {
                // On a socket for both families IPv4 comes in the clothes of IPv6.
                let ip = remote.ip().to_canonical();
                networks.iter().any(|it| it.has(ip))
            }
            // Who may connect to a unix socket is up to the permissions of its file.
            (None, _) | (_, None) => true,
        }
    }
}

/// The bits that all IPv4-mapped addresses have in common.
const MAPPED: u8 = 96;

impl Network {
    /// A network of IPv4-mapped addresses is one of IPv4.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        match address.to_canonical() {
            plain if plain != address && prefix >= MAPPED => Self {
                address: plain,
                prefix: prefix - MAPPED,
            },
            _ => Self { address, prefix },
        }
    }

    /// Whether the address, no IPv4-mapped one, is of it.
    pub fn has(self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let differing = own.to_bits() ^ ip.to_bits();
                differing.leading_zeros() >= self.prefix.into()
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let differing = own.to_bits() ^ ip.to_bits();
                differing.leading_zeros() >= self.prefix.into()
            }
            _ => false,
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(Malformed(what)) => write!(f, "the PROXY header is malformed: {what}"),
            Self::Missing => f.write_str("the connection does not begin with a PROXY header"),
            Self::CutOff => f.write_str("the connection ended before its PROXY header did"),
            Self::Late => f.write_str("the PROXY header did not come within handshake_timeout"),
            Self::Untrusted => f.write_str("a PROXY header of a peer not in proxy_trusted"),
            Self::TooMany => f.write_str("a host with max_connections_per_host open"),
            Self::Cancelled => {
                f.write_str("the connection was closed before its PROXY header came")
            }
            Self::Dead => f.write_str(DEAD),
            Self::Io(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(network: &str, prefix: u8, ip: &str) -> bool {
        let remote = SocketAddr::new(ip.parse().unwrap(), 1);
        let network = Network::new(network.parse().unwrap(), prefix);
        let policy = ProxyPolicy {
            required: true,
            trusted: Some(vec![network]),
        };
        policy.trusts(Some(remote))
    }

    #[test]
    fn an_ipv4_address_is_one_in_whichever_clothes_it_comes() {
        for ip in ["10.1.2.3", "::ffff:10.1.2.3"] {
            for (network, prefix) in [
                ("0.0.0.0", 0),
                ("10.0.0.0", 8),
                ("10.1.2.3", 32),
                ("::ffff:0.0.0.0", 96),
                ("::ffff:10.0.0.0", 104),
                ("::ffff:10.1.2.3", 128),
            ] {
                assert!(has(network, prefix, ip), "{network}/{prefix} {ip}");
            }
            for (network, prefix) in [
                ("10.1.2.2", 32),
                ("::ffff:11.0.0.0", 104),
                ("::", 0),
                ("::", 80),
                ("::10.1.2.3", 128),
            ] {
                assert!(!has(network, prefix, ip), "{network}/{prefix} {ip}");
            }
        }
    }

    #[test]
    fn a_network_of_ipv6_has_the_addresses_with_its_first_bits() {
        assert!(has("::", 0, "2001:db8::1"));
        assert!(has("2001:db8::", 32, "2001:db8::1"));
        assert!(has("::1", 128, "::1"));
        assert!(!has("2001:db8::", 32, "2001:db9::1"));
        assert!(!has("0.0.0.0", 0, "2001:db8::1"));
    }
}

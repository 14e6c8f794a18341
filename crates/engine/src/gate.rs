//! Whom a listener lets in, and when: how many at once, how many of one host, and how fast.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::timers::{Millis, millis};

/// What a listener's owner allows; `None` for no limit.
#[derive(Clone, Copy, Default, Debug)]
pub struct Limits {
    pub connections: Option<usize>,
    pub connections_per_host: Option<usize>,
    /// Connections per second.
    pub rate: Option<f64>,
    /// TLS handshakes that have not come to their end.
    pub handshakes: Option<usize>,
}

/// A limit at which accepting pauses: whoever comes waits in the kernel's queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    Connections,
    Rate,
    Handshakes,
}

/// Whom connections of one site come from: an IPv4 address, or the /64 of an IPv6 address, of which
/// one host has all addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Host {
    V4(u32),
    V6(u128),
}

impl Host {
    fn of(remote: SocketAddr) -> Self {
        match remote.ip().to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.to_bits()),
            IpAddr::V6(ip) => Self::V6(ip.to_bits() >> 64),
        }
    }
}

/// What a connection that was let in counts for, until it leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    host: Option<Host>,
    pub handshaking: bool,
}

/// Counts those who are in. A connection is until its descriptor is closed and its owner told: for
/// neither of the two there are ever more.
pub(crate) struct Gate {
    limits: Limits,
    connections: usize,
    handshakes: usize,
    hosts: HashMap<Host, usize>,
    /// How many the rate allows, as of `counted_at`.
    allowance: f64,
    counted_at: Millis,
    /// What it is shut for.
    shut: Option<Limit>,
    /// When the rate opens it again.
    opens_at: Millis,
}

impl Gate {
    pub fn new(limits: Limits, now: Millis) -> Self {
        Self {
            limits,
            connections: 0,
            handshakes: 0,
            hosts: HashMap::new(),
            allowance: limits.rate.map_or(0.0, burst),
            counted_at: now,
            shut: None,
            opens_at: Millis::MAX,
        }
    }

    pub fn is_shut(&self) -> bool {
        self.shut.is_some()
    }

    /// When it is to be looked at again, if nobody leaves before.
    pub fn opens_at(&self) -> Option<Millis> {
        (self.shut == Some(Limit::Rate)).then_some(self.opens_at)
    }

    /// Shuts it if a limit is reached, and opens it if none is any more. Returns the limit.
    pub fn check(&mut self, now: Millis) -> Option<Limit> {
        let reached = |limit: Option<usize>, count| limit.is_some_and(|limit| count >= limit);
        self.shut = if reached(self.limits.connections, self.connections) {
            Some(Limit::Connections)
        } else if reached(self.limits.handshakes, self.handshakes) {
            Some(Limit::Handshakes)
        } else {
            self.check_rate(now)
        };
        self.shut
    }

    fn check_rate(&mut self, now: Millis) -> Option<Limit> {
        let rate = self.limits.rate?;
        let passed = Duration::from_millis(now - self.counted_at);
        self.allowance = burst(rate).min(self.allowance + passed.as_secs_f64() * rate);
        self.counted_at = now;
        if self.allowance >= 1.0 {
            return None;
        }
        let wait = Duration::try_from_secs_f64((1.0 - self.allowance) / rate);
        self.opens_at = now.saturating_add(millis(wait.unwrap_or(Duration::MAX)));
        Some(Limit::Rate)
    }

    /// False if there are enough of that host.
    pub fn admits(&self, remote: Option<SocketAddr>) -> bool {
        let (Some(limit), Some(remote)) = (self.limits.connections_per_host, remote) else {
            return true;
        };
        self.hosts
            .get(&Host::of(remote))
            .is_none_or(|count| *count < limit)
    }

    pub fn enter(&mut self, remote: Option<SocketAddr>, handshaking: bool) -> Guest {
        self.connections += 1;
        if self.limits.rate.is_some() {
            self.allowance -= 1.0;
        }
        self.handshakes += usize::from(handshaking);
        let mut guest = Guest {
            host: None,
            handshaking,
        };
        self.introduce(&mut guest, remote);
        guest
    }

    /// Who it is that has entered.
    pub fn introduce(&mut self, guest: &mut Guest, remote: Option<SocketAddr>) {
        // Counted only where that matters.
        guest.host = self.limits.connections_per_host.and(remote).map(Host::of);
        if let Some(host) = guest.host {
            *self.hosts.entry(host).or_default() += 1;
        }
    }

    pub fn end_handshake(&mut self) {
        self.handshakes -= 1;
    }

    pub fn leave(&mut self, guest: Guest) {
        self.connections -= 1;
        self.handshakes -= usize::from(guest.handshaking);
        if let Some(host) = guest.host
            && let Some(count) = self.hosts.get_mut(&host)
        {
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(&host);
            }
        }
    }

    /// All have left, or are another process's.
    pub fn clear(&mut self) {
        self.connections = 0;
        self.handshakes = 0;
        self.hosts.clear();
        self.shut = None;
    }
}

/// As many as come within a second may come at once.
fn burst(rate: f64) -> f64 {
    rate.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(limits: Limits) -> Gate {
        Gate::new(limits, 0)
    }

    fn host(text: &str) -> Host {
        Host::of(SocketAddr::new(text.parse().unwrap(), 1))
    }

    #[test]
    fn a_host_is_an_ipv4_address_or_a_network_of_ipv6() {
        assert_eq!(host("::ffff:10.0.0.1"), host("10.0.0.1"));
        assert_ne!(host("10.0.0.1"), host("10.0.0.2"));
        assert_eq!(host("2001:db8:0:1::1"), host("2001:db8:0:1:ffff::2"));
        assert_ne!(host("2001:db8:0:1::1"), host("2001:db8:0:2::1"));
    }

    #[test]
    fn the_rate_holds_over_any_time() {
        let rate = 10.0;
        let mut gate = gate(Limits {
            rate: Some(rate),
            ..Limits::default()
        });
        let mut entered = 0_u32;
        for now in 0..5_000 {
            while gate.check(now).is_none() {
                gate.enter(None, false);
                entered += 1;
            }
            assert!(gate.opens_at().unwrap() > now);
            let most = burst(rate) + rate * Duration::from_millis(now).as_secs_f64();
            assert!(f64::from(entered) <= most + 1e-6);
        }
        assert!(entered >= 59);
    }

    #[test]
    fn a_rate_of_almost_nothing_opens_late_and_does_not_overflow() {
        let mut gate = gate(Limits {
            rate: Some(f64::MIN_POSITIVE),
            ..Limits::default()
        });
        assert_eq!(gate.check(0), None);
        gate.enter(None, false);
        assert_eq!(gate.check(1), Some(Limit::Rate));
        assert!(gate.opens_at().unwrap() > 1 << 40);
    }

    #[test]
    fn hosts_that_have_left_are_forgotten() {
        let mut gate = gate(Limits {
            connections_per_host: Some(2),
            ..Limits::default()
        });
        let remote = Some(SocketAddr::new("10.0.0.1".parse().unwrap(), 1));
        let first = gate.enter(remote, false);
        let second = gate.enter(remote, false);
        assert!(!gate.admits(remote));
        gate.leave(first);
        assert!(gate.admits(remote));
        let third = gate.enter(remote, false);
        gate.leave(second);
        gate.leave(third);
        assert!(gate.hosts.is_empty());
    }
}

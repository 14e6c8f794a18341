//! Sessions to resume.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{
    ClientSessionStore, ResolvesClientCert, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls_pki_types::ServerName;

use super::verify::ServerVerifier;

/// Tickets kept of one server; the oldest goes first. Servers send two for each connection.
const TICKETS: usize = 4;

/// What a client remembers of a server. Connections that resume share it: each takes a ticket,
/// which is good for one connection, and adds those it is given.
///
/// It lives in this process only: neither the tickets nor their secrets can be taken out.
#[derive(Clone, Debug)]
pub struct ResumeToken(pub(super) Arc<Store>);

impl ResumeToken {
    /// There is something to resume with.
    pub fn is_usable(&self) -> bool {
        let pool = self.0.pool();
        pool.tls12.is_some() || !pool.tls13.is_empty()
    }

    pub fn server_name(&self) -> &ServerName<'static> {
        &self.0.name
    }
}

#[derive(Debug)]
pub struct Store {
    pub name: ServerName<'static>,
    pool: Mutex<Pool>,
    // rustls resumes under the very verifier and credentials of the first handshake only. As long
    // as these live, an equal configuration gets them again.
    _verifier: Arc<ServerVerifier>,
    _credentials: Arc<dyn ResolvesClientCert>,
}

#[derive(Default, Debug)]
struct Pool {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Store {
    pub fn new(
        name: ServerName<'static>,
        verifier: Arc<ServerVerifier>,
        credentials: Arc<dyn ResolvesClientCert>,
    ) -> Self {
        Self {
            name,
            pool: Mutex::default(),
            _verifier: verifier,
            _credentials: credentials,
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Store {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.pool().group = Some(group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.pool().group.filter(|_| self.name == *name)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.pool().tls12 = Some(value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.pool().tls12.clone().filter(|_| self.name == *name)
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.pool().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut pool = self.pool();
        if pool.tls13.len() == TICKETS {
            pool.tls13.pop_front();
        }
        pool.tls13.push_back(value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if self.name != *name {
            return None;
        }
        self.pool().tls13.pop_back()
    }
}

//! Accepted connections that a PROXY header is still to introduce: followed, reported once, let in
//! as a stream or turned away.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Engine, Event, Farewell, Member, Notice};
use crate::greeting::{Greeting, ProxyError, ProxyPolicy};
use crate::listener::{Accepted, Acceptor};
use crate::poller::Interest;
use crate::proxy::Header;
use crate::stream::{Endpoints, Settings, Stream};
use crate::timers::millis;
use crate::token::Token;

impl Engine {
    /// New connections of a listener begin with a PROXY header.
    pub fn set_proxy_policy(&mut self, token: Token, policy: ProxyPolicy) {
        if let Some(Member::Listener(listener)) = self.members.get_mut(token) {
            listener.proxy = Some(Arc::new(policy));
        }
    }

    pub(super) fn greet(
        &mut self,
        listener: Token,
        fd: OwnedFd,
        remote: Option<SocketAddr>,
        settings: Arc<Settings>,
        policy: Arc<ProxyPolicy>,
    ) -> Accepted {
        let timeout = settings.handshake_timeout;
        let mut greeting = Greeting::new(fd, remote, settings, policy);
        let hopeless = greeting.is_hopeless();
        greeting.told = hopeless;
        let fd = greeting.raw_fd();
        let deadline = timeout.map(|timeout| self.present().saturating_add(millis(timeout)));
        if let Some(deadline) = deadline {
            greeting.deadline = deadline;
        }
        let token = self.members.insert(Member::Greeting(greeting));
        self.poller.admit(fd);
        if hopeless {
            self.notices
                .push_back(Notice::Greeted(token, Err(ProxyError::Untrusted)));
        } else {
            if let Err(error) = self.poller.watch_arrivals(fd, token) {
                self.dismiss(token);
                return self.rest(listener, error);
            }
            if let Some(deadline) = deadline {
                self.schedule(deadline, token);
            }
        }
        self.references += 1;
        self.note_stranger(listener, token);
        Accepted::Greeting(token)
    }

    pub(super) fn on_greeting_ready(&mut self, token: Token) -> Event {
        if let Some(Member::Greeting(greeting)) = self.members.get_mut(token)
            && !greeting.told
            && let Some(outcome) = greeting.look(self.scratch.memory())
        {
            self.greeted(token, outcome);
        }
        Event::Nothing
    }

    pub(super) fn on_greeting_deadline(&mut self, token: Token) {
        if let Some(Member::Greeting(greeting)) = self.members.get_mut(token) {
            let outcome = greeting.on_deadline(self.scratch.memory());
            self.greeted(token, outcome);
        }
    }

    /// Turns one away that has not been heard yet. False if it is something else.
    pub fn cancel_greeting(&mut self, token: Token) -> bool {
        let Some(Member::Greeting(greeting)) = self.members.get_mut(token) else {
            return false;
        };
        if !greeting.told {
            self.greeted(token, Err(ProxyError::Cancelled));
        }
        true
    }

    fn greeted(&mut self, token: Token, outcome: Result<(), ProxyError>) {
        if let Some(Member::Greeting(greeting)) = self.members.get_mut(token) {
            greeting.told = true;
        }
        self.notices.push_back(Notice::Greeted(token, outcome));
        if !self.in_turn() {
            self.set_alarm();
        }
    }

    /// Lets it in: it is a stream from now on, of whom its header tells. `Err` if it cannot be.
    pub fn let_in(
        &mut self,
        token: Token,
        tls: Option<&Acceptor>,
    ) -> Result<Option<Box<Header>>, ProxyError> {
        let driver = tls.map(Acceptor::driver).transpose();
        let driver = driver.map_err(|error| ProxyError::Io(std::io::Error::other(error)))?;
        let client = match self.members.get(token) {
            Some(Member::Greeting(greeting)) => greeting.client(),
            _ => return Err(ProxyError::Cancelled),
        };
        if !self.introduce(token, client) {
            return Err(ProxyError::TooMany);
        }
        let Some(Member::Greeting(greeting)) = self.members.replace(token, None) else {
            return Err(ProxyError::Cancelled);
        };
        let settings = Arc::clone(&greeting.settings);
        let (fd_number, (fd, header)) = (greeting.raw_fd(), greeting.into_parts());
        let mut stream = Stream::new(fd, client, settings);
        if let Some(driver) = driver {
            stream.secure_with(driver);
        }
        stream.known = Interest::READABLE;
        self.members.replace(token, Some(Member::Stream(stream)));
        // What has come behind the header is reported, though none of it is new.
        self.poller
            .watch_all(fd_number, token, Interest::READABLE)
            .map_err(ProxyError::Io)?;
        self.arm(token);
        Ok(header)
    }

    /// Turns it away with a RST. Returns who that was.
    pub fn turn_away(&mut self, token: Token) -> Farewell {
        let endpoints = match self.members.get_mut(token) {
            Some(Member::Greeting(greeting)) => Endpoints {
                local: None,
                remote: greeting.remote,
            },
            Some(Member::Stream(stream)) => stream.endpoints(),
            _ => return Farewell::default(),
        };
        self.references -= 1;
        self.dismiss(token);
        self.note_leaving(token);
        self.wake_starved();
        Farewell {
            endpoints,
            ..Farewell::default()
        }
    }
}

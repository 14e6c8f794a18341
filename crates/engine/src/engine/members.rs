//! Who comes and who goes: streams, listeners, and what they hold open.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::{Engine, Farewell, Member};
use crate::error::CloseReason;
use crate::listener::{Acceptor, Listener};
use crate::poller::Interest;
use crate::stream;
use crate::stream::{Driver, Secure, Settings, Stream};
use crate::sys::net;
use crate::token::Token;

impl Engine {
    pub(super) fn add_stream(
        &mut self,
        fd: OwnedFd,
        remote: Option<SocketAddr>,
        settings: Arc<Settings>,
        driver: Option<Driver>,
    ) -> Result<Token, (OwnedFd, io::Error)> {
        let fd_number = fd.as_raw_fd();
        let mut stream = Stream::new(fd, remote, settings);
        if let Some(driver) = driver {
            stream.secure_with(driver);
        }
        // Nothing is expected of one that is not read from yet: the kernel is told when it is.
        let waits = !stream.wants_input();
        let token = self.members.insert(Member::Stream(stream));
        if waits {
            self.poller.admit(fd_number);
        } else if let Err(error) = self.register(token)
            && let Some(Member::Stream(mut stream)) = self.members.remove(token)
            && let Some(fd) = stream.take_fd()
        {
            self.poller.dismiss(fd.as_raw_fd(), Interest::NONE);
            return Err((fd, error));
        }
        self.references += 1;
        self.arm(token);
        Ok(token)
    }

    /// Takes over a connected descriptor that came from elsewhere; on failure it is left alone.
    pub fn adopt(
        &mut self,
        fd: RawFd,
        settings: Arc<Settings>,
        driver: Option<Driver>,
    ) -> io::Result<Token> {
        let fd = net::own(fd)?;
        let remote = match stream::prepare(&fd, &settings) {
            Ok(remote) => remote,
            Err(error) => {
                net::disown(fd);
                return Err(error);
            }
        };
        self.add_stream(fd, remote, settings, driver)
            .map_err(|(fd, error)| {
                net::disown(fd);
                error
            })
    }

    /// Takes over a socket that is bound and listening; on failure it is left alone.
    pub fn add_listener(
        &mut self,
        fd: RawFd,
        defaults: Arc<Settings>,
        tls: Option<Acceptor>,
    ) -> io::Result<Token> {
        let fd = net::own(fd)?;
        if let Err(error) = Listener::prepare(&fd, &defaults) {
            net::disown(fd);
            return Err(error);
        }
        let token = self
            .members
            .insert(Member::Listener(Listener::new(fd, defaults, tls)));
        self.references += 1;
        if let Err(error) = self.register(token) {
            if let Some(Member::Listener(listener)) = self.members.remove(token) {
                self.poller.dismiss(listener.fd.as_raw_fd(), Interest::NONE);
                net::disown(listener.fd);
            }
            self.references -= 1;
            return Err(error);
        }
        Ok(token)
    }

    /// Takes the member's last words; its slot is free as soon as its descriptor is.
    pub fn release(&mut self, token: Token) -> Farewell {
        let mut farewell = self.farewell(token);
        if let Some(stream) = self.stream_mut(token) {
            stream.released = true;
            farewell.session = stream.take_session();
            if stream.state.is_closed() {
                self.members.remove(token);
                self.note_leaving(token);
            }
        }
        farewell
    }

    pub fn farewell(&mut self, token: Token) -> Farewell {
        let Some(stream) = self.stream_mut(token) else {
            return Farewell::default();
        };
        Farewell {
            endpoints: stream.endpoints(),
            bytes_read: stream.bytes_read,
            bytes_written: stream.bytes_written(),
            sent: stream.sent,
            facts: stream.secure().and_then(Secure::facts),
            session: None,
        }
    }

    /// Everything that is open, oldest slot first.
    pub fn tokens(&self) -> Vec<Token> {
        self.members.tokens()
    }

    /// Descriptors held, those that only linger included.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last moment of the engine: no time is left to send or to wait for the peer. Where our
    /// FIN is out already, late input must not turn the end into a RST.
    pub fn abandon(&mut self, token: Token, scratch: &mut [u8]) {
        let finished = self.stream(token).is_some_and(|s| s.state.fin_sent());
        if self.stream(token).is_some_and(Stream::is_transport) {
            self.abort(token);
        } else if finished {
            if let Some(stream) = self.stream_mut(token) {
                stream.swallow(scratch);
            }
            self.close(token, false, CloseReason::Clean);
        } else {
            let unsent = self.stream(token).is_some_and(Stream::has_unsent);
            let reason = if unsent {
                CloseReason::Abandoned
            } else {
                CloseReason::Clean
            };
            self.close(token, true, reason);
        }
    }

    pub fn close_listener(&mut self, token: Token) {
        if let Some(Member::Listener(listener)) = self.members.get(token) {
            self.references -= usize::from(listener.referenced);
            self.dismiss(token);
        }
    }

    pub fn has_listeners(&self) -> bool {
        let is_listener = |token| matches!(self.members.get(token), Some(Member::Listener(_)));
        self.members.tokens().into_iter().any(is_listener)
    }

    pub fn set_referenced(&mut self, token: Token, wanted: bool) {
        let referenced = match self.members.get_mut(token) {
            Some(Member::Stream(stream)) if !stream.told => &mut stream.referenced,
            Some(Member::Listener(listener)) => &mut listener.referenced,
            _ => return,
        };
        if std::mem::replace(referenced, wanted) != wanted {
            if wanted {
                self.references += 1;
            } else {
                self.references -= 1;
            }
        }
    }

    pub fn hold(&mut self) {
        self.references += 1;
    }

    pub fn unhold(&mut self) {
        self.references -= 1;
    }

    pub fn is_referenced(&self) -> bool {
        self.references > 0 || self.has_notices()
    }
}

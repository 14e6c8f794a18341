//! TLS on connections and listeners, by token.

use std::sync::Arc;

use super::{Engine, Member, Notice};
use crate::listener::Acceptor;
use crate::stream::{Driver, Outgoing, Pumped, Secure, Settings, Stream};
use crate::tls::Session;
use crate::token::Token;

impl Engine {
    /// Makes TLS of a connection that began in clear. `initial` is ciphertext that has arrived.
    pub fn secure(&mut self, token: Token, driver: Driver, initial: Vec<u8>) {
        self.with_stream(token, |stream| {
            stream.secure_with(driver);
            if !initial.is_empty() {
                stream.open_early(initial);
            }
        });
        self.remind(token);
    }

    /// Has other times and limits from now on.
    pub fn set_settings(&mut self, token: Token, settings: Arc<Settings>) {
        self.with_stream(token, |stream| stream.set_settings(settings));
    }

    /// New connections of a listener speak TLS with this configuration; open ones stay as they are.
    pub fn set_tls(&mut self, token: Token, tls: Option<Acceptor>) {
        if let Some(Member::Listener(listener)) = self.members.get_mut(token) {
            listener.tls = tls;
        }
    }

    pub fn session(&mut self, token: Token) -> Option<&mut Session> {
        self.stream_mut(token)?.secure()?.session()
    }

    /// Whether TLS is to begin, and how can still be changed.
    pub fn can_restart(&self, token: Token) -> bool {
        self.stream(token).is_some_and(Stream::can_restart)
    }

    /// Begins with another session instead, unless the handshake has begun. It knows nothing of
    /// what was read before TLS took over: that is given anew.
    pub fn replace_session(&mut self, token: Token, session: Session, initial: Vec<u8>) {
        self.with_stream(token, |stream| {
            let secure = stream.secure();
            if secure.is_some_and(|secure| secure.replace(session)) {
                stream.open_early(initial);
            }
        });
    }

    /// Whether the owner's driver has something to seal.
    pub fn awaits_driver(&self, token: Token) -> bool {
        self.stream(token).is_some_and(Stream::awaits_driver)
    }

    /// What the owner's driver is to seal.
    pub fn take_outgoing(&mut self, token: Token) -> Outgoing {
        let secure = self.stream_mut(token).and_then(Stream::secure);
        secure.map(Secure::take_outgoing).unwrap_or_default()
    }

    /// What came of ciphertext, or of `take_outgoing`. True if the plaintext is to be delivered
    /// now; else it is read later.
    pub fn pumped(&mut self, token: Token, pumped: &Pumped<'_>) -> bool {
        let now = self.timers.now();
        let Some(stream) = self.stream_mut(token) else {
            return false;
        };
        if stream.state.is_closed() {
            return false;
        }
        let at_once = stream.pumped(pumped);
        if at_once {
            stream.bytes_read += pumped.plaintext.len() as u64;
            if stream.is_timed() {
                stream.date(now);
            }
        }
        if !stream.is_settled() {
            self.settle(token);
        }
        at_once
    }

    /// A foreign driver's session is established, and the engine's to drive from now on.
    pub fn adopt_session(
        &mut self,
        token: Token,
        session: Session,
        plaintext: &[u8],
        output: &[u8],
    ) {
        let Some(stream) = self.stream_mut(token) else {
            return;
        };
        if !stream.state.is_closed() {
            stream.adopt_session(session, plaintext, output);
            self.settle(token);
        }
    }

    pub fn has_unread(&self, token: Token) -> bool {
        self.stream(token).is_some_and(Stream::has_unread)
    }

    /// Whether what is read next is the application's, and wanted; not ciphertext for a foreign
    /// driver.
    pub fn reads_plaintext(&self, token: Token) -> bool {
        self.stream(token).is_some_and(|stream| {
            let wanted = stream.state.delivers() && stream.state.wants_input();
            wanted && (stream.has_unread() || !stream.is_driven())
        })
    }

    /// Keeps plaintext that `pumped` left to the caller, to be read like any other.
    pub fn put_back(&mut self, token: Token, plaintext: &[u8]) {
        if let Some(stream) = self.stream_mut(token)
            && let Some(secure) = stream.secure()
        {
            secure.put_back(plaintext);
            stream.bytes_read -= plaintext.len() as u64;
        }
    }

    /// Whether TLS can begin: both directions are open, and nothing is lost.
    pub fn can_upgrade(&self, token: Token) -> bool {
        !self.is_piped(token)
            && self.stream(token).is_some_and(|stream| {
                stream.state.accepts_writes()
                    && !stream.state.read_ended()
                    && stream.broken().is_none()
            })
    }

    /// Whether nothing more comes from the peer of a connection that is open otherwise.
    pub fn has_finished(&self, token: Token) -> bool {
        let waits = |stream: &Stream| stream.state.accepts_writes() && stream.state.read_ended();
        self.stream(token).is_some_and(waits)
    }

    pub fn is_secure(&self, token: Token) -> bool {
        self.stream(token).is_some_and(Stream::is_secure)
    }

    pub fn is_handshaking(&self, token: Token) -> bool {
        self.stream(token).is_some_and(Stream::is_handshaking)
    }

    /// Reads again soon, whatever the kernel says.
    pub fn remind(&mut self, token: Token) {
        self.notices.push_back(Notice::Unread(token));
        if !self.in_turn() {
            self.set_alarm();
        }
    }

    /// Sends the first bytes of a handshake, if it is ours to begin.
    pub fn begin_handshake(&mut self, token: Token) {
        self.with_stream(token, Stream::begin_handshake);
    }

    pub fn remind_if_unread(&mut self, token: Token) {
        if self.has_unread(token) {
            self.remind(token);
        }
    }
}

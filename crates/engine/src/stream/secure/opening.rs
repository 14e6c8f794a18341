//! What comes out of the session: opened, and kept until it can be delivered.

use super::{Driver, Ending, Secure};
use crate::stream::Received;
use crate::tls::{Fed, Plaintext, TlsError};

/// Plaintext as it is opened: what is due straight into the reader's buffer.
struct Opened<'a> {
    due: &'a mut [u8],
    /// So much of that is filled.
    n: usize,
    /// What has no room there.
    later: &'a mut Vec<u8>,
}

impl Plaintext for Opened<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let room = &mut self.due[self.n..];
        let (due, later) = bytes.split_at(bytes.len().min(room.len()));
        room[..due.len()].copy_from_slice(due);
        self.n += due.len();
        if !later.is_empty() {
            self.later.extend_from_slice(later);
        }
    }
}

impl Secure {
    /// Whether plaintext that has just come of a read may be delivered right away.
    pub(super) fn delivers_at_once(&self) -> bool {
        self.established && !self.has_unread()
    }

    /// Plaintext that was opened and could not be delivered at once after all.
    pub fn put_back(&mut self, plaintext: &[u8]) {
        self.unread.extend_from_slice(plaintext);
    }

    /// Whether there is something to deliver that the kernel does not know of.
    pub fn has_unread(&self) -> bool {
        self.news || !self.unread.is_empty() || self.ending.is_some()
    }

    /// What was opened earlier and is due next.
    pub(super) fn next(&mut self, buffer: &mut [u8]) -> Option<Received> {
        if std::mem::take(&mut self.news) {
            return Some(Received::Established);
        }
        if !self.unread.is_empty() {
            let n = self.unread.len().min(buffer.len());
            buffer[..n].copy_from_slice(&self.unread[..n]);
            self.unread.drain(..n);
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
            let more = self.has_unread();
            return Some(Received::Data { n, more });
        }
        match self.ending.take()? {
            Ending::CloseNotify => Some(Received::Fin),
            Ending::Broken(error) => Some(Received::Broken(error)),
        }
    }

    /// Opens ciphertext, and hands over what is due in `buffer`; the rest stays for `next`.
    pub(super) fn open(&mut self, ciphertext: &mut [u8], buffer: &mut [u8]) -> Received {
        // Nothing else waits, or that would be read first.
        let room = if self.opens_first() { 0 } else { buffer.len() };
        let Driver::Native(session) = &mut self.driver else {
            return Received::Nothing;
        };
        let mut opened = Opened {
            due: &mut buffer[..room],
            n: 0,
            later: &mut self.unread,
        };
        let fed = session.feed(ciphertext, &mut opened);
        let n = opened.n;
        self.note_fed(fed);
        if n == 0 {
            return self.next(buffer).unwrap_or(Received::Nothing);
        }
        let more = self.has_unread();
        Received::Data { n, more }
    }

    /// Opens ciphertext that somebody else has read; it is all for `next`.
    pub(super) fn open_early(&mut self, mut ciphertext: Vec<u8>) {
        if let Driver::Native(session) = &mut self.driver {
            let fed = session.feed(&mut ciphertext, &mut self.unread);
            self.note_fed(fed);
        }
    }

    pub(super) fn note_fed(&mut self, fed: Result<Fed, TlsError>) {
        match fed {
            Ok(fed) => {
                self.established |= fed.established;
                self.news |= fed.established;
                if fed.peer_closed {
                    self.peer_closed = true;
                    self.ending = Some(Ending::CloseNotify);
                }
            }
            Err(error) => self.break_off(error),
        }
    }
}

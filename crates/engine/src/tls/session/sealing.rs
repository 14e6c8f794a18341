//! What a session sends: records of plaintext, new keys, and its goodbye.

use rustls::unbuffered::EncryptError;

use super::{HEADER, MAX_FRAGMENT, Session};
use crate::tls::connection::Writer;
use crate::tls::error::TlsError;

/// Header, nonce, content type and tag: what a record adds at most.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;

/// What [`Session::seal_into`] did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sealed {
    /// Plaintext that is in the records.
    pub taken: usize,
    /// Bytes of the records.
    pub written: usize,
}

impl Session {
    /// Encrypts as much of `plaintext` as has room in `out`, which begins with what the session
    /// itself had to send. Nothing is taken before the handshake is done.
    pub fn seal_into(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<Sealed, TlsError> {
        if let Some(error) = &self.failed {
            return Err((**error).clone());
        }
        let mut done = Sealed::default();
        loop {
            if !self.output.is_empty() {
                let n = self.output.len().min(out.len() - done.written);
                out[done.written..done.written + n].copy_from_slice(&self.output[..n]);
                self.output.drain(..n);
                done.written += n;
                if !self.output.is_empty() {
                    return Ok(done);
                }
                self.output = Vec::new();
            }
            if !self.established || self.closed {
                return Ok(done);
            }
            let room = out.len() - done.written;
            let left = &plaintext[done.taken..];
            let piece = self.fitting(room).min(left.len());
            if piece == 0 {
                return Ok(done);
            }
            if let Some(written) = self.encrypt(&left[..piece], &mut out[done.written..])? {
                done.written += written;
                done.taken += piece;
            }
        }
    }

    /// How much plaintext one call of rustls can put into `room` bytes.
    fn fitting(&self, room: usize) -> usize {
        const RECORD: usize = MAX_FRAGMENT + RECORD_OVERHEAD;
        if self.max_fragment < MAX_FRAGMENT {
            return room.saturating_sub(RECORD_OVERHEAD).min(self.max_fragment);
        }
        // Whole records, then what the last one has room for.
        room / RECORD * MAX_FRAGMENT + (room % RECORD).saturating_sub(RECORD_OVERHEAD)
    }

    /// Appends records with all of `plaintext` to `out`; with none of it before the handshake is
    /// done, and after [`Session::close_notify`]. Returns how much was taken.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<usize, TlsError> {
        let mut taken = 0;
        loop {
            let left = plaintext.len() - taken;
            let records = left.div_ceil(self.max_fragment);
            let start = out.len();
            let room = self.output.len() + left + records * RECORD_OVERHEAD;
            out.resize(start + room, 0);
            let sealed = self.seal_into(&plaintext[taken..], &mut out[start..]);
            out.truncate(start + sealed.as_ref().map_or(0, |sealed| sealed.written));
            taken += sealed?.taken;
            // Once more if a key update came in between.
            if taken == plaintext.len() || !self.established || self.closed {
                return Ok(taken);
            }
        }
    }

    /// Encrypts all of it; `None` if there is something to say before, a key update, which then
    /// is in the output.
    fn encrypt(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<Option<usize>, TlsError> {
        if self.connection.drain(&mut self.output) {
            return Ok(None);
        }
        let result = self.write_traffic(|mut writer| writer.encrypt(plaintext, out))?;
        match result {
            Some(Ok(written)) => Ok(Some(written)),
            Some(Err(EncryptError::InsufficientSize(_))) => {
                self.connection.drain(&mut self.output);
                Ok(None)
            }
            Some(Err(EncryptError::EncryptExhausted)) => {
                let error = TlsError::Protocol("the traffic keys are exhausted".into());
                self.failed = Some(Box::new(error.clone()));
                Err(error)
            }
            None => Err(TlsError::Protocol("the session cannot send".into())),
        }
    }

    fn write_traffic<R>(
        &mut self,
        send: impl FnOnce(Writer<'_>) -> R,
    ) -> Result<Option<R>, TlsError> {
        let result = self.connection.write(&mut self.pending, send);
        result.map_err(|error| self.fail(&error, &[]))
    }

    /// Ends our side: appends the output and `close_notify`. Nothing can be sealed any more;
    /// reading goes on. Before the handshake is done there is nothing to say.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.connection.drain(&mut self.output);
        self.take_output(out);
        if !self.established || self.closed || self.failed.is_some() {
            return;
        }
        self.closed = true;
        // It does not get there if there is a key update to announce.
        let start = out.len();
        out.resize(start + HEADER + RECORD_OVERHEAD, 0);
        let written = self.write_traffic(|mut writer| writer.close_notify(&mut out[start..]));
        if let Ok(Some(Ok(written))) = written {
            out.truncate(start + written);
        } else {
            out.truncate(start);
            self.connection.drain(&mut self.output);
            self.take_output(out);
        }
    }

    /// Asks for new keys in both directions; with TLS 1.2 there is no such thing.
    pub fn update_keys(&mut self) -> Result<(), TlsError> {
        let result = self.write_traffic(
            #[expect(clippy::redundant_closure_for_method_calls, reason = "lifetimes")]
            |writer| writer.update_keys(),
        )?;
        self.connection.drain(&mut self.output);
        match result {
            Some(Ok(())) => Ok(()),
            _ => Err(TlsError::Protocol("no key update is possible".into())),
        }
    }

    /// The largest plaintext of one record; `false` if it is out of range.
    pub fn set_max_fragment(&mut self, size: usize) -> bool {
        let valid = (1..=MAX_FRAGMENT).contains(&size);
        if valid {
            self.max_fragment = size;
        }
        valid
    }
}

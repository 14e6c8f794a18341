//! rustls' unbuffered connections, one interface for both sides.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error};

use super::resume::Store;
use crate::sys::prefetch;

pub enum Connection {
    Client(Box<UnbufferedClientConnection>, Arc<Store>),
    Server(Box<UnbufferedServerConnection>),
}

/// What processing led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Again,
    /// There was plaintext; more steps may follow.
    Data,
    PeerClosed,
    /// More input is needed; or it is our turn.
    Idle,
}

/// Where plaintext goes.
pub trait Plaintext {
    fn put(&mut self, bytes: &[u8]);
}

impl Plaintext for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The state in which rustls sends.
pub enum Writer<'c> {
    Client(WriteTraffic<'c, ClientConnectionData>),
    Server(WriteTraffic<'c, ServerConnectionData>),
}

impl Writer<'_> {
    pub fn encrypt(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, EncryptError> {
        match self {
            Self::Client(writer) => writer.encrypt(plaintext, out),
            Self::Server(writer) => writer.encrypt(plaintext, out),
        }
    }

    pub fn close_notify(&mut self, out: &mut [u8]) -> Result<usize, EncryptError> {
        match self {
            Self::Client(writer) => writer.queue_close_notify(out),
            Self::Server(writer) => writer.queue_close_notify(out),
        }
    }

    pub fn update_keys(self) -> Result<(), Error> {
        match self {
            Self::Client(writer) => writer.refresh_traffic_keys(),
            Self::Server(writer) => writer.refresh_traffic_keys(),
        }
    }
}

impl Connection {
    #[inline]
    pub fn prefetch(&self) {
        match self {
            Self::Client(client, _) => prefetch(&**client),
            Self::Server(server) => prefetch(&**server),
        }
    }

    pub fn state(&self) -> &CommonState {
        match self {
            Self::Client(client, _) => client,
            Self::Server(server) => server,
        }
    }

    /// Goes one step. Puts plaintext into `plain` and appends what is to be sent to `output`;
    /// returns how much of the input is done with. The rest must be at the front of the next input.
    pub fn process(
        &mut self,
        input: &mut [u8],
        plain: &mut dyn Plaintext,
        output: &mut Vec<u8>,
    ) -> (usize, Result<Step, Error>) {
        match self {
            Self::Client(client, _) => step(client.process_tls_records(input), plain, output),
            Self::Server(server) => step(server.process_tls_records(input), plain, output),
        }
    }

    /// Moves what rustls has to say into the output; `false` if there was nothing.
    pub fn drain(&mut self, output: &mut Vec<u8>) -> bool {
        if !self.state().wants_write() {
            return false;
        }
        // While there is something, rustls does not look at its input.
        let mut plain = Vec::new();
        while self.state().wants_write() {
            if self.process(&mut [], &mut plain, output).1 != Ok(Step::Again) {
                break;
            }
        }
        true
    }

    /// Lets `send` send, where that is possible. There must be nothing to drain; `pending` is the
    /// input that is not done with, which rustls may have looked at already.
    pub fn write<R>(
        &mut self,
        pending: &mut [u8],
        send: impl FnOnce(Writer<'_>) -> R,
    ) -> Result<Option<R>, Error> {
        loop {
            match self {
                Self::Client(client, _) => match client.process_tls_records(pending).state? {
                    ConnectionState::WriteTraffic(writer) => {
                        return Ok(Some(send(Writer::Client(writer))));
                    }
                    ConnectionState::TransmitTlsData(data) => data.done(),
                    _ => return Ok(None),
                },
                Self::Server(server) => match server.process_tls_records(pending).state? {
                    ConnectionState::WriteTraffic(writer) => {
                        return Ok(Some(send(Writer::Server(writer))));
                    }
                    ConnectionState::TransmitTlsData(data) => data.done(),
                    _ => return Ok(None),
                },
            }
        }
    }
}

/// Acts on one state of rustls. Returns how much of the input is done with.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut dyn Plaintext,
    output: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let mut discard = status.discard;
    let step = match status.state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.put(record.payload);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Step::Data),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
                let start = output.len();
                output.resize(start + needed.required_size, 0);
                if data.encode(&mut output[start..]).is_err() {
                    output.truncate(start);
                }
            }
            Ok(Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(_) => Ok(Step::Idle),
        Err(error) => Err(error),
    };
    (discard, step)
}

//! Packets: how a socket's data is cut, and where what is read goes.

use mantou_engine as core;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::Socket;
use crate::packets;

/// Where what is read goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// To the handler, as it comes.
    Handler,
    /// Into the buffer of a `BufferedProtocol`.
    Offered,
    /// Through the engine, which cuts it into packets.
    Packets,
}

impl Socket {
    #[inline]
    pub fn intake(&self, py: Python<'_>) -> Intake {
        self.intake.get(py)
    }

    /// Has what is read cut, if its connection is one with packets.
    pub fn follow_framing(&self, py: Python<'_>) -> PyResult<()> {
        let framed = self.with(py, |core, token| core.is_framed(token))?;
        self.set_intake(
            py,
            if framed {
                Intake::Packets
            } else {
                Intake::Handler
            },
        );
        Ok(())
    }

    pub fn set_intake(&self, py: Python<'_>, intake: Intake) {
        self.intake.replace(py, intake);
    }
}

#[pymethods]
impl Socket {
    /// Changes how data is cut into packets, as the option `packet` does.
    ///
    /// It is in force for all that follows: within `data`, for what was read together with the
    /// packet that `data` was called with, and for what is sent from now on. `"raw"` hands on what
    /// comes as it comes. `upgrade_tls()` keeps it.
    ///
    /// What `data` writes for packets that came together leaves together, as within `cork()`.
    /// Where the peer's FIN comes within a packet, the connection ends with a
    /// `mantou.PacketIncomplete`, and `end` is not called.
    ///
    /// Not in Bun.
    ///
    /// :param packet: `"line"`, `1`, `2`, `4` or `"raw"`.
    /// :param packet_size: the longest packet that is received, in bytes; None for what the option
    ///     `packet_size` says.
    /// :raises TypeError: neither a str nor an int.
    /// :raises ValueError: none of these values, or a size below 1; or a stream has the socket.
    #[pyo3(signature = (packet, packet_size=None))]
    fn set_packet(
        &self,
        packet: &Bound<'_, PyAny>,
        packet_size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = packet.py();
        let framing = packets::framing(packet, "packet")?;
        let limit = packet_size.map(packets::size).transpose()?;
        let handlers = self.current_handlers(py);
        if handlers.is_some_and(|it| it.get().transport().is_some()) {
            return Err(PyValueError::new_err(
                "set_packet() on the socket of a stream, which hands out bytes as they are asked for",
            ));
        }
        let set = |core: &mut core::Engine, token| core.set_packets(token, framing, limit);
        self.with(py, set)?;
        self.follow_framing(py)
    }
}

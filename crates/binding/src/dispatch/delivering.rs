//! Delivering: what came in becomes what the `data` handler gets.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use super::calls::{conclude, invoke};
use crate::buffers::Draft;
use crate::engine::Engine;
use crate::handlers::BinaryType;
use crate::socket::Socket;
use crate::stage::Stage;
use crate::work::Work;

/// Calls `data` with so many bytes at the front of the turn's buffer, or of a draft.
#[inline]
pub(super) fn on_data<'py>(
    engine: &Bound<'py, Engine>,
    work: &mut Work,
    draft: Option<Draft<'py>>,
    socket: &Bound<'py, Socket>,
    n: usize,
) {
    let py = socket.py();
    let Some(handlers) = socket.get().current_handlers(py) else {
        return;
    };
    let handlers = handlers.get();
    let Some(handler) = handlers.of(Stage::Data) else {
        return;
    };
    let handler = handler.bind(py);
    let outcome = match handlers.binary_type {
        BinaryType::Bytes => received(py, work, draft, n)
            .and_then(|bytes| invoke(engine, socket, Stage::Data, handler, (socket, bytes))),
        BinaryType::Bytearray => {
            let bytes = PyByteArray::new(py, work.buffer.filled(n));
            invoke(engine, socket, Stage::Data, handler, (socket, bytes))
        }
        BinaryType::Memoryview => {
            // An async handler takes its first step while the view is there, too.
            let lent = work.buffer.lend(py, n, |view| {
                let outcome = invoke(engine, socket, Stage::Data, handler, (socket, view));
                conclude(engine, socket, Stage::Data, outcome);
                Ok(())
            });
            match lent {
                Ok(()) => return,
                Err(error) => Err(error),
            }
        }
    };
    conclude(engine, socket, Stage::Data, outcome);
}

/// What a read brought, as bytes.
#[inline]
fn received<'py>(
    py: Python<'py>,
    work: &Work,
    draft: Option<Draft<'py>>,
    n: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    match draft {
        Some(draft) => draft.finish(n),
        None => Ok(PyBytes::new(py, work.buffer.filled(n))),
    }
}

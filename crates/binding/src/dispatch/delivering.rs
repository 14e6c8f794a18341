//! Delivering: what came in becomes what the `data` handler or the protocol gets.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::calls::{conclude, invoke, leaves_the_loop, protocol_raised};
use crate::buffers::{Draft, Room};
use crate::engine::Engine;
use crate::handlers::{BinaryType, Handlers};
use crate::lending::release;
use crate::socket::Socket;
use crate::stage::Stage;
use crate::stream_reader;
use crate::streams::{Arrived, Stream};
use crate::work::Work;

/// Where it was read into.
pub(super) enum Place<'py> {
    Shared,
    /// There as well, to be cut.
    Packets,
    /// What is to become the bytes that the handler gets.
    Draft(Draft<'py>),
    /// The buffer of a `BufferedProtocol`, or that of a stream's reader.
    Offered(Room),
    /// The shared buffer, up to there: as much as a stream's reader asks for.
    Part(usize),
    /// The same, in what is to become its bytes.
    Piece(Draft<'py>),
}

/// Calls `data` with so many bytes of that place.
#[inline]
pub(super) fn on_data<'py>(
    engine: &Bound<'py, Engine>,
    work: &mut Work,
    place: Place<'py>,
    socket: &Bound<'py, Socket>,
    n: usize,
) {
    let py = socket.py();
    let Some(handlers) = socket.get().current_handlers(py) else {
        return;
    };
    let handlers = handlers.get();
    let Some(handler) = handlers.of(Stage::Data) else {
        return to_stream(engine, work, place, socket, handlers, n);
    };
    let handler = handler.bind(py);
    let outcome = match handlers.binary_type {
        BinaryType::Protocol => {
            return to_protocol(engine, socket, handlers, received(py, work, place, n));
        }
        BinaryType::Buffered => {
            // Its owner may change its size from now on.
            drop(place);
            return on_filled(engine, socket, handlers, n);
        }
        // It has no handler of data: see above.
        BinaryType::Stream => return,
        BinaryType::StreamReader => return to_stream_reader(engine, work, socket, handlers, n),
        BinaryType::Bytes => received(py, work, place, n)
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

/// Calls `data` with a packet.
#[inline]
pub(super) fn on_packet(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>, packet: &[u8]) {
    let py = socket.py();
    let Some(handlers) = socket.get().current_handlers(py) else {
        return;
    };
    let handlers = handlers.get();
    let Some(handler) = handlers.of(Stage::Data) else {
        return;
    };
    let call = |packet: &Bound<'_, PyAny>| {
        let outcome = invoke(
            engine,
            socket,
            Stage::Data,
            handler.bind(py),
            (socket, packet),
        );
        conclude(engine, socket, Stage::Data, outcome);
    };
    match handlers.binary_type {
        BinaryType::Bytearray => call(PyByteArray::new(py, packet).as_any()),
        BinaryType::Memoryview => {
            let view = PyMemoryView::from(PyBytes::new(py, packet).as_any());
            let lent = view.and_then(|view| {
                call(view.as_any());
                release(&view)
            });
            if let Err(error) = lent {
                conclude(engine, socket, Stage::Data, Err(error));
            }
        }
        _ => call(PyBytes::new(py, packet).as_any()),
    }
}

/// Calls `data` with these bytes, which were asked for because it takes some.
pub(super) fn on_bytes<'py>(
    engine: &Bound<'py, Engine>,
    work: &mut Work,
    socket: &Bound<'py, Socket>,
    bytes: Bound<'py, PyBytes>,
) {
    let handlers = socket.get().current_handlers(socket.py());
    let handlers = handlers.as_ref().map(Py::get);
    match handlers.map(|it| (it, it.binary_type, it.of(Stage::Data))) {
        Some((handlers, BinaryType::Protocol, _)) => {
            to_protocol(engine, socket, handlers, Ok(bytes));
        }
        Some((_, BinaryType::Bytes, Some(handler))) => {
            let handler = handler.bind(socket.py());
            let outcome = invoke(engine, socket, Stage::Data, handler, (socket, bytes));
            conclude(engine, socket, Stage::Data, outcome);
        }
        // Other handlers have come meanwhile.
        _ => {
            work.buffer.put(bytes.as_bytes());
            on_data(engine, work, Place::Shared, socket, bytes.as_bytes().len());
        }
    }
}

/// Whether it is to get what comes in as bytes.
#[inline]
pub(super) fn takes_bytes(socket: &Bound<'_, Socket>) -> bool {
    let Some(handlers) = socket.get().current_handlers(socket.py()) else {
        return false;
    };
    let handlers = handlers.get();
    let kind = handlers.binary_type;
    matches!(kind, BinaryType::Bytes | BinaryType::Protocol) && handlers.of(Stage::Data).is_some()
}

/// An asyncio protocol gets what was received. What it returns means nothing.
#[inline]
fn to_protocol<'py>(
    engine: &Bound<'py, Engine>,
    socket: &Bound<'py, Socket>,
    handlers: &Handlers,
    bytes: PyResult<Bound<'py, PyBytes>>,
) {
    let (Some(handler), Some(transport)) = (handlers.of(Stage::Data), handlers.transport()) else {
        return;
    };
    let handler = handler.bind(socket.py());
    let outcome = bytes.and_then(|it| invoke(engine, socket, Stage::Data, handler, (it,)));
    if let Err(error) = outcome {
        protocol_raised(engine, transport.bind(socket.py()), "data_received", &error);
    }
}

/// An asyncio stream gets them without its protocol, unless there is more to do than that.
fn to_stream_reader<'py>(
    engine: &Bound<'py, Engine>,
    work: &Work,
    socket: &Bound<'py, Socket>,
    handlers: &Handlers,
    n: usize,
) {
    let py = socket.py();
    let data = work.buffer.filled(n);
    let fed = match handlers.companion() {
        Some(reader) if !engine.get().is_debugged(py) => {
            let entered = socket.get().context().enter(py);
            entered.and_then(|_entered| stream_reader::feed(reader.bind(py), data))
        }
        _ => Ok(false),
    };
    let rest = match fed {
        Ok(true) => return,
        Ok(false) => Ok(PyBytes::new(py, data)),
        Err(error) => Err(error),
    };
    to_protocol(engine, socket, handlers, rest);
}

/// So many bytes were received into the buffer of a `BufferedProtocol`.
fn on_filled<'py>(
    engine: &Bound<'py, Engine>,
    socket: &Bound<'py, Socket>,
    handlers: &Handlers,
    n: usize,
) {
    let (Some(updated), Some(transport)) = (handlers.companion(), handlers.transport()) else {
        return;
    };
    let updated = updated.bind(socket.py());
    if let Err(error) = invoke(engine, socket, Stage::Data, updated, (n,)) {
        protocol_raised(
            engine,
            transport.bind(socket.py()),
            "buffer_updated",
            &error,
        );
    }
}

/// A stream gets what was received, if that is what has no handler of data.
fn to_stream<'py>(
    engine: &Bound<'py, Engine>,
    work: &Work,
    place: Place<'py>,
    socket: &Bound<'py, Socket>,
    handlers: &Handlers,
    n: usize,
) {
    let py = socket.py();
    let stream = handlers.transport().map(|it| it.bind(py).cast::<Stream>());
    let Some(Ok(stream)) = stream else {
        return;
    };
    let arrived = match place {
        Place::Draft(draft) | Place::Piece(draft) => draft.finish(n).map(Arrived::Bytes),
        // Its owner may change its size from now on.
        Place::Offered(_) => Ok(Arrived::Filled(n)),
        _ => Ok(Arrived::Lent(work.buffer.filled(n))),
    };
    let delivered = arrived.and_then(|arrived| stream.get().deliver(engine, arrived));
    if let Err(error) = delivered {
        stream_failed(engine, socket, &error);
    }
}

/// What a reader's task lets out is to leave the loop.
#[cold]
fn stream_failed(engine: &Bound<'_, Engine>, socket: &Bound<'_, Socket>, error: &PyErr) {
    let py = engine.py();
    if leaves_the_loop(py, error) {
        engine.get().set_fatal(py, error.clone_ref(py));
    } else {
        let host = &engine.get().host;
        host.report(py, "a stream failed to deliver", error, Some(socket));
    }
}

/// What a read brought, as bytes.
#[inline]
fn received<'py>(
    py: Python<'py>,
    work: &Work,
    place: Place<'py>,
    n: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    match place {
        Place::Draft(draft) => draft.finish(n),
        _ => Ok(PyBytes::new(py, work.buffer.filled(n))),
    }
}

//! A user's handlers, in any of the forms they may have, or an asyncio protocol: looked up once,
//! called often.

use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyMapping, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::arity::can_take;
use crate::methods::{self, Attribute};
use crate::stage::Stage;
use crate::stream_reader;

/// How incoming bytes are handed over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BinaryType {
    Bytes,
    Bytearray,
    Memoryview,
    /// As bytes, and without the socket: to an asyncio `Protocol`.
    Protocol,
    /// In the buffer that an asyncio `BufferedProtocol` offers.
    Buffered,
    /// To a stream, which says where it is received.
    Stream,
    /// To an asyncio `StreamReader`, if its protocol may be passed over.
    StreamReader,
}

type Table<T> = [T; Stage::ALL.len()];

/// What handlers of either kind have that the others have not. In one place, since each asyncio
/// connection has such an object of its own: a word more would cost each of them sixteen bytes.
enum Rest {
    /// A user's.
    Own { draining: Option<Py<PyAny>> },
    /// An asyncio protocol's, or a stream's.
    Protocol {
        /// The transport that is told of everything but data, or the stream.
        transport: Py<PyAny>,
        /// What goes with `data`: `buffer_updated` of a `BufferedProtocol`, whose `get_buffer` stands
        /// for `data`; a reference to the `StreamReader` that `data` would feed.
        companion: Option<Py<PyAny>>,
    },
}

/// One set of handlers; `None` where there is none.
#[pyclass(frozen, module = "mantou._core")]
pub struct Handlers {
    table: [Option<Py<PyAny>>; Stage::Draining as usize],
    pub binary_type: BinaryType,
    rest: Rest,
}

impl Handlers {
    /// What a user gave as `socket=`.
    pub fn compile(given: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        Py::new(given.py(), Self::new(given, "socket")?)
    }

    /// Those of a transport: data goes to its protocol, all other events to itself.
    pub fn of_protocol(
        transport: Py<PyAny>,
        protocol: &Bound<'_, PyAny>,
        buffered: bool,
    ) -> PyResult<Py<Self>> {
        let py = protocol.py();
        let (binary_type, data, companion) = if buffered {
            let updated = protocol.getattr(intern!(py, "buffer_updated"))?;
            let data = protocol.getattr(intern!(py, "get_buffer"))?;
            (BinaryType::Buffered, data, Some(updated))
        } else {
            let data = match protocol.getattr_opt(intern!(py, "data_received"))? {
                Some(data) => data,
                None => not_yet(protocol)?,
            };
            match stream_reader::of_protocol(protocol) {
                Some(reader) => (BinaryType::StreamReader, data, Some(reader)),
                None => (BinaryType::Protocol, data, None),
            }
        };
        let mut table = [const { None }; Stage::Draining as usize];
        table[Stage::Data as usize] = Some(data.unbind());
        let handlers = Self {
            table,
            binary_type,
            rest: Rest::Protocol {
                transport,
                companion: companion.map(Bound::unbind),
            },
        };
        Py::new(py, handlers)
    }

    /// Those of a stream, which is told of all events itself.
    pub fn of_stream(stream: Py<PyAny>, py: Python<'_>) -> PyResult<Py<Self>> {
        let handlers = Self {
            table: [const { None }; Stage::Draining as usize],
            binary_type: BinaryType::Stream,
            rest: Rest::Protocol {
                transport: stream,
                companion: None,
            },
        };
        Py::new(py, handlers)
    }

    #[inline]
    pub fn transport(&self) -> Option<&Py<PyAny>> {
        match &self.rest {
            Rest::Protocol { transport, .. } => Some(transport),
            Rest::Own { .. } => None,
        }
    }

    #[inline]
    pub fn companion(&self) -> Option<&Py<PyAny>> {
        match &self.rest {
            Rest::Protocol { companion, .. } => companion.as_ref(),
            Rest::Own { .. } => None,
        }
    }

    #[inline]
    pub fn of(&self, stage: Stage) -> Option<&Py<PyAny>> {
        match (stage, &self.rest) {
            (Stage::Draining, Rest::Own { draining }) => draining.as_ref(),
            (Stage::Draining, Rest::Protocol { .. }) => None,
            _ => self.table[stage as usize].as_ref(),
        }
    }
}

#[pymethods]
impl Handlers {
    /// Takes an object with some of the methods, or a mapping of name to callable; a handler that
    /// is None counts as absent. `TypeError` if there is none at all, or one cannot be called as it
    /// will be, or a name in a mapping is not known.
    #[new]
    #[pyo3(signature = (given, option = "socket"))]
    fn new(given: &Bound<'_, PyAny>, option: &str) -> PyResult<Self> {
        if let Ok(class) = given.cast::<PyType>() {
            let name = class.name()?;
            return Err(PyTypeError::new_err(format!(
                "option '{option}' got the class '{name}' itself; pass an instance: {name}()"
            )));
        }
        let no_ops = no_ops(given.py())?;
        // A SocketHandler is an object, whatever else it is; and asking for mappings is slow.
        let (table, binary_type) = if given.is_instance(no_ops.class.bind(given.py()))? {
            of_derived(given, no_ops)?
        } else if let Ok(mapping) = given.cast::<PyMapping>() {
            of_mapping(mapping, option)?
        } else {
            of_object(given, no_ops)?
        };
        for (handler, no_op) in table.iter().zip(&no_ops.methods) {
            if let Some(handler) = handler.as_ref().map(|it| it.bind(given.py()))
                && !(handler.is_callable() && can_take(handler, no_op.arguments)?)
            {
                return Err(no_handler(option, no_op, handler));
            }
        }
        if table.iter().all(Option::is_none) {
            let names = Stage::ALL.map(Stage::name).join(", ");
            return Err(PyTypeError::new_err(format!(
                "option '{option}' must be handlers, at least one of {names}, got {}",
                shown(given)?
            )));
        }
        let binary_type = match binary_type {
            Some(given) => parse_binary_type(&given, option)?,
            None => BinaryType::Bytes,
        };
        let [table @ .., draining] = table;
        Ok(Self {
            table,
            binary_type,
            rest: Rest::Own { draining },
        })
    }

    /// The handler of that name, or None.
    fn __getitem__(&self, py: Python<'_>, name: &str) -> PyResult<Option<Py<PyAny>>> {
        let stage = Stage::ALL.into_iter().find(|stage| stage.name() == name);
        let stage = stage.ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
        Ok(self.of(stage).map(|handler| handler.clone_ref(py)))
    }

    #[getter]
    fn binary_type(&self) -> &'static str {
        match self.binary_type {
            BinaryType::Bytes => "bytes",
            BinaryType::Bytearray => "bytearray",
            BinaryType::Memoryview => "memoryview",
            BinaryType::Protocol => "protocol",
            BinaryType::Buffered => "buffered",
            BinaryType::StreamReader => "stream reader",
            BinaryType::Stream => "stream",
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for handler in self.table.iter().flatten() {
            visit.call(handler)?;
        }
        match &self.rest {
            Rest::Own { draining } => visit.call(draining),
            Rest::Protocol {
                transport,
                companion,
            } => {
                visit.call(transport)?;
                visit.call(companion)
            }
        }
    }
}

/// For a protocol without `data_received`: it is missed when something comes.
fn not_yet<'py>(protocol: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let module = protocol.py().import("mantou._transport")?;
    module.call_method1("when_data_comes", (protocol,))
}

/// The handlers that were found, and what `binary_type` is, where it is given.
type Found<'py> = (Table<Option<Py<PyAny>>>, Option<Bound<'py, PyAny>>);

/// Of an object that has all of them by inheritance. Most are those of the base class, and need not be
/// bound to be told apart.
fn of_derived<'py>(given: &Bound<'py, PyAny>, no_ops: &NoOps) -> PyResult<Found<'py>> {
    let py = given.py();
    let mut table = Table::default();
    for (place, no_op) in table.iter_mut().zip(&no_ops.methods) {
        let name = no_op.name.bind(py);
        let handler = match methods::look_up(given, name)? {
            Some(Attribute::Unbound(function)) if function.is(&no_op.function) => None,
            Some(Attribute::Unbound(_)) => Some(given.getattr(name)?),
            Some(Attribute::Value(value)) => Some(value),
            None => None,
        };
        *place = handler.and_then(|handler| no_op.overridden_by(handler));
    }
    Ok((table, given.getattr_opt(intern!(py, "binary_type"))?))
}

fn of_object<'py>(given: &Bound<'py, PyAny>, no_ops: &NoOps) -> PyResult<Found<'py>> {
    let py = given.py();
    let mut table = Table::default();
    for (place, no_op) in table.iter_mut().zip(&no_ops.methods) {
        let handler = given.getattr_opt(no_op.name.bind(py))?;
        *place = handler.and_then(|handler| no_op.overridden_by(handler));
    }
    Ok((table, given.getattr_opt(intern!(py, "binary_type"))?))
}

fn of_mapping<'py>(mapping: &Bound<'py, PyMapping>, option: &str) -> PyResult<Found<'py>> {
    let py = mapping.py();
    let mut known = Stage::ALL.map(Stage::name).to_vec();
    known.push("binary_type");
    for name in mapping.try_iter()? {
        let name = name?;
        if !known.iter().any(|known| name.eq(known).unwrap_or(false)) {
            static UNKNOWN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let unknown = UNKNOWN.import(py, "mantou._names", "unknown_name")?;
            let error = unknown.call1((format!("option '{option}'"), name.str()?, known))?;
            return Err(PyErr::from_value(error));
        }
    }
    let mut table = Table::default();
    for (place, stage) in table.iter_mut().zip(Stage::ALL) {
        let handler = mapping.call_method1(intern!(py, "get"), (stage.name(),))?;
        *place = (!handler.is_none()).then(|| handler.unbind());
    }
    let binary_type = intern!(py, "binary_type");
    let binary_type = if mapping.contains(binary_type)? {
        Some(mapping.get_item(binary_type)?)
    } else {
        None
    };
    Ok((table, binary_type))
}

fn parse_binary_type(given: &Bound<'_, PyAny>, option: &str) -> PyResult<BinaryType> {
    let Ok(name) = given.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!(
            "option '{option}': 'binary_type' must be a str, got {}",
            shown(given)?
        )));
    };
    match name.to_cow()?.as_ref() {
        "bytes" => Ok(BinaryType::Bytes),
        "bytearray" => Ok(BinaryType::Bytearray),
        "memoryview" => Ok(BinaryType::Memoryview),
        _ => Err(PyValueError::new_err(format!(
            "option '{option}': 'binary_type' must be one of bytes, bytearray, memoryview, got {}",
            shown(given)?
        ))),
    }
}

/// The base class and its methods.
struct NoOps {
    class: Py<PyAny>,
    methods: Table<NoOp>,
}

/// A method of the base class: how its handler is called, and what an override is told apart by.
struct NoOp {
    name: Py<PyString>,
    function: Py<PyAny>,
    arguments: usize,
}

impl NoOp {
    /// The attribute of its name, if that is a handler.
    fn overridden_by(&self, attribute: Bound<'_, PyAny>) -> Option<Py<PyAny>> {
        let function = methods::function_of(&attribute);
        let is_inherited = function.is_some_and(|function| function.is(&self.function));
        (!attribute.is_none() && !is_inherited).then(|| attribute.unbind())
    }
}

fn no_ops(py: Python<'_>) -> PyResult<&NoOps> {
    static NO_OPS: PyOnceLock<NoOps> = PyOnceLock::new();
    NO_OPS.get_or_try_init(py, || {
        let class = py.import("mantou._handlers")?.getattr("SocketHandler")?;
        let mut methods = Vec::new();
        for stage in Stage::ALL {
            let name = PyString::intern(py, stage.name());
            let function = class.getattr(&name)?;
            let code = function.getattr("__code__")?;
            let with_self: usize = code.getattr("co_argcount")?.extract()?;
            methods.push(NoOp {
                name: name.unbind(),
                function: function.unbind(),
                arguments: with_self - 1,
            });
        }
        let methods = methods
            .try_into()
            .map_err(|_| PyTypeError::new_err("SocketHandler lacks a handler"))?;
        Ok(NoOps {
            class: class.unbind(),
            methods,
        })
    })
}

/// The error for what stands where a handler is expected and cannot be called as one.
fn no_handler(option: &str, no_op: &NoOp, given: &Bound<'_, PyAny>) -> PyErr {
    static NO_HANDLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = given.py();
    let error = NO_HANDLER
        .import(py, "mantou._handlers", "no_handler")
        .and_then(|no_handler| no_handler.call1((option, &no_op.name, given)));
    error.map_or_else(|error| error, PyErr::from_value)
}

/// A value as error messages show it.
fn shown(value: &Bound<'_, PyAny>) -> PyResult<String> {
    static SHOWN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let shown = SHOWN.import(value.py(), "mantou._validate", "shown")?;
    shown.call1((value,))?.extract()
}

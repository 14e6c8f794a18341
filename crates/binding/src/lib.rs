//! `mantou._core`: the engine, seen from Python.

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

mod arity;
mod attempt;
mod buffers;
mod cell;
mod closing;
mod connecting;
mod context;
mod dispatch;
mod engine;
mod errors;
mod facts;
mod figures;
mod first_step;
mod handlers;
mod handshake;
mod host;
mod judging;
mod lending;
mod listener;
mod methods;
mod opening;
mod packets;
mod pem;
mod proxy;
mod scheduler;
mod settings;
mod socket;
mod ssl_channel;
mod ssl_driver;
mod stage;
mod stream_reader;
mod streams;
mod tls;
mod totals;
mod transport;
mod turns;
mod ways;
mod work;

#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // First of all: types and what is interned are made once in a process, of one interpreter's
    // objects.
    if !cell::is_main_interpreter(py) {
        let text = "mantou does not support sub-interpreters: use it in the main one";
        return Err(PyImportError::new_err(text));
    }
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;

    module.add_class::<attempt::Attempt>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<facts::TlsFacts>()?;
    module.add_class::<handlers::Handlers>()?;
    module.add_class::<handshake::Handshake>()?;
    module.add_class::<listener::Listener>()?;
    module.add_class::<scheduler::Handle>()?;
    module.add_class::<scheduler::ReadyQueue>()?;
    module.add_class::<scheduler::Scheduler>()?;
    module.add_class::<scheduler::TimerHandle>()?;
    module.add_class::<socket::Cork>()?;
    module.add_class::<socket::FileSend>()?;
    module.add_class::<socket::Pipe>()?;
    module.add_class::<socket::Socket>()?;
    module.add_class::<ssl_driver::SslPump>()?;
    module.add_class::<streams::Stream>()?;
    module.add_class::<tls::TlsConfig>()?;
    module.add_class::<tls::TlsTicket>()?;
    module.add_class::<totals::Totals>()?;
    module.add_class::<transport::Transport>()?;

    module.add_function(wrap_pyfunction!(arity::can_take, module)?)?;
    module.add_function(wrap_pyfunction!(connecting::connect_at_once, module)?)?;
    module.add_function(wrap_pyfunction!(engine::own_engine, module)?)?;
    module.add_function(wrap_pyfunction!(facts::tls_facts, module)?)?;
    module.add_function(wrap_pyfunction!(figures::process_totals, module)?)?;
    module.add_function(wrap_pyfunction!(packets::check_packet, module)?)?;
    module.add_function(wrap_pyfunction!(pem::pem_certificates, module)?)?;
    module.add_function(wrap_pyfunction!(pem::pem_private_key, module)?)?;
    module.add_function(wrap_pyfunction!(pem::pem_revocation_lists, module)?)?;
    module.add_function(wrap_pyfunction!(pem::pem_trusted, module)?)?;
    module.add_function(wrap_pyfunction!(proxy::write_proxy_header, module)?)?;
    module.add_function(wrap_pyfunction!(tls::is_server_name, module)?)?;
    module.add_function(wrap_pyfunction!(tls::key_algorithm, module)?)?;
    module.add_function(wrap_pyfunction!(tls::server_end_point, module)?)?;
    module.add_function(wrap_pyfunction!(tls::system_trust_size, module)?)?;
    module.add_function(wrap_pyfunction!(ways::known_way, module)?)?;
    module.add_function(wrap_pyfunction!(ways::remember_way, module)?)?;

    streams::install(py)?;
    scheduler::install(py)
}

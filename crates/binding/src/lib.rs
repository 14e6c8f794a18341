//! `mantou._core`: the engine, seen from Python.

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
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::arity::can_take;
    #[pymodule_export]
    use crate::attempt::Attempt;
    #[pymodule_export]
    use crate::connecting::connect_at_once;
    #[pymodule_export]
    use crate::engine::{Engine, own_engine};
    #[pymodule_export]
    use crate::facts::{TlsFacts, tls_facts};
    #[pymodule_export]
    use crate::figures::process_totals;
    #[pymodule_export]
    use crate::handlers::Handlers;
    #[pymodule_export]
    use crate::handshake::Handshake;
    #[pymodule_export]
    use crate::listener::Listener;
    #[pymodule_export]
    use crate::packets::check_packet;
    #[pymodule_export]
    use crate::pem::{pem_certificates, pem_private_key, pem_revocation_lists, pem_trusted};
    #[pymodule_export]
    use crate::proxy::write_proxy_header;
    #[pymodule_export]
    use crate::scheduler::{Handle, ReadyQueue, Scheduler, TimerHandle};
    #[pymodule_export]
    use crate::socket::{Cork, FileSend, Pipe, Socket};
    #[pymodule_export]
    use crate::ssl_driver::SslPump;
    #[pymodule_export]
    use crate::streams::Stream;
    #[pymodule_export]
    use crate::tls::{
        TlsConfig, TlsTicket, is_server_name, key_algorithm, server_end_point, system_trust_size,
    };
    #[pymodule_export]
    use crate::totals::Totals;
    #[pymodule_export]
    use crate::transport::Transport;
    #[pymodule_export]
    use crate::ways::{known_way, remember_way};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::streams::install(module.py())?;
        crate::scheduler::install(module.py())
    }
}

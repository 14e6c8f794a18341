//! Whom a socket asks about its TLS session: the engine, or the driver that is not the engine's.

use mantou_engine::tls::{Authorization, Session};
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;

use super::Socket;
use crate::errors;
use crate::handshake::Handshake;

impl Socket {
    /// Looks at its session; `None` without one, and once it is closed.
    pub(super) fn session<R>(
        &self,
        py: Python<'_>,
        look: impl FnOnce(&mut Session) -> R,
    ) -> PyResult<Option<R>> {
        self.with(py, |core, token| core.session(token).map(look))
    }

    /// Asks the driver that is not the engine's, if there is one. Like a session of the engine's, it
    /// tells nothing any more once the connection is gone.
    pub(super) fn ask<'py>(
        &self,
        py: Python<'py>,
        question: &str,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.is_gone(py) {
            return Ok(None);
        }
        self.recall(py, question, arguments)
    }

    /// The same for what is known for ever.
    pub(super) fn recall<'py>(
        &self,
        py: Python<'py>,
        question: &str,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(driver) = self.driver(py) else {
            return Ok(None);
        };
        if self.handshake(py).is_some() {
            // Nothing is known yet.
            return Ok(None);
        }
        driver.bind(py).call_method1(question, arguments).map(Some)
    }

    /// The handshake at work, if rustls does it on behalf of an `ssl.SSLContext`.
    pub(super) fn handshake(&self, py: Python<'_>) -> Option<Py<Handshake>> {
        self.driver(py)?
            .into_bound(py)
            .cast_into()
            .ok()
            .map(Bound::unbind)
    }

    /// The verification of the peer's certificate that failed and was let pass.
    pub fn authorization_error(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let failure = self.session(py, |session| match session.authorization() {
            Authorization::Failed(error) => Some(error.clone()),
            _ => None,
        })?;
        let failure = failure.flatten();
        Ok(
            failure
                .map(|error| errors::value(py, errors::from_verification(py, &error)).into_any()),
        )
    }
}

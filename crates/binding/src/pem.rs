//! PEM texts, taken apart: what they hold, in DER. A `ValueError` says which block is of no
//! use, and why.

use mantou_engine::tls::{self, PemError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

type List<'py> = PyResult<Vec<Bound<'py, PyBytes>>>;

#[pyfunction]
#[pyo3(signature = (text, /))]
pub fn pem_certificates<'py>(py: Python<'py>, text: &[u8]) -> List<'py> {
    list(py, tls::certificates(text))
}

/// Those that may vouch for servers, or for clients.
#[pyfunction]
#[pyo3(signature = (text, servers, /))]
pub fn pem_trusted<'py>(py: Python<'py>, text: &[u8], servers: bool) -> List<'py> {
    list(py, tls::trusted(text, servers))
}

#[pyfunction]
#[pyo3(signature = (text, /))]
pub fn pem_revocation_lists<'py>(py: Python<'py>, text: &[u8]) -> List<'py> {
    list(py, tls::revocation_lists(text))
}

/// The first private key: its label, its headers, its contents, which may be encrypted.
#[pyfunction]
#[pyo3(signature = (text, /))]
pub fn pem_private_key<'py>(
    py: Python<'py>,
    text: &[u8],
) -> PyResult<(String, String, Bound<'py, PyBytes>)> {
    let found = tls::private_key(text).map_err(unusable)?;
    let contents = PyBytes::new(py, &found.contents);
    Ok((found.label, found.headers, contents))
}

fn list<T: AsRef<[u8]>>(py: Python<'_>, found: Result<Vec<T>, PemError>) -> List<'_> {
    let found = found.map_err(unusable)?;
    let bytes = |der: &T| PyBytes::new(py, der.as_ref());
    Ok(found.iter().map(bytes).collect())
}

#[allow(clippy::needless_pass_by_value)]
fn unusable(error: PemError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

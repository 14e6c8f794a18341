//! An `ssl.SSLContext` judges the certificates of peers that the engine talks to.
//!
//! The engine asks in the middle of a handshake, and only whoever carries out that handshake knows
//! for which context and name. So that is put down here before, and the exception is picked up
//! behind it.

use std::cell::RefCell;

use mantou_engine::tls::{ForeignJudge, Refusal};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList};

/// The handshake at work.
pub struct Case {
    pub context: Py<PyAny>,
    pub server_side: bool,
    pub name: Option<String>,
}

thread_local! {
    static CASE: RefCell<Option<Case>> = const { RefCell::new(None) };
    static REFUSAL: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Does something in which certificates of this case may have to be judged. Returns the exception
/// with which one was refused, too.
pub fn within<R>(case: Case, act: impl FnOnce() -> R) -> (R, Option<PyErr>) {
    // The judge runs Python: a finalizer that it sets off may run another handshake.
    let before = (CASE.replace(Some(case)), REFUSAL.take());
    let result = act();
    CASE.set(before.0);
    (result, REFUSAL.replace(before.1))
}

/// Asks the context of the handshake at work.
#[derive(Debug)]
pub struct ContextJudge;

impl ForeignJudge for ContextJudge {
    fn judge(&self, chain: &[&[u8]]) -> Result<(), Refusal> {
        Python::attach(|py| match ask(py, chain) {
            Ok(None) => Ok(()),
            Ok(Some((error, alert))) => Err(refuse(error, alert)),
            Err(error) => Err(refuse(error, INTERNAL_ERROR)),
        })
    }
}

/// The alert of that name.
const INTERNAL_ERROR: u8 = 80;

/// Why the chain is refused, if it is, and the alert that goes with it.
fn ask(py: Python<'_>, chain: &[&[u8]]) -> PyResult<Option<(PyErr, u8)>> {
    static JUDGE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let case = CASE.with_borrow(|case| {
        let case = case.as_ref()?;
        Some((
            case.context.clone_ref(py),
            case.server_side,
            case.name.clone(),
        ))
    });
    let Some((context, server_side, name)) = case else {
        // Nobody has put down for whom: nobody can answer for it.
        let text = "a certificate is to be judged outside of any handshake";
        return Err(pyo3::exceptions::PyRuntimeError::new_err(text));
    };
    let judge = JUDGE.import(py, "mantou._ssl_judge", "judge")?;
    let chain = PyList::new(py, chain.iter().map(|der| PyBytes::new(py, der)))?;
    let refused: Option<(Bound<'_, PyAny>, u8)> = judge
        .call1((context, server_side, name, chain))?
        .extract()?;
    Ok(refused.map(|(error, alert)| (PyErr::from_value(error), alert)))
}

fn refuse(error: PyErr, alert: u8) -> Refusal {
    let message = error.to_string();
    REFUSAL.set(Some(error));
    Refusal { alert, message }
}

//! What its handlers are busy with, and what is to be said when they no longer are.

use pyo3::prelude::*;

use super::Socket;
use crate::context::Context;

/// What is to be said of a connection that is gone, when nobody is busy with it any more.
pub enum Ending {
    Own {
        error: Option<Py<PyAny>>,
        /// The error is a handler's own, or that of a limit which the owner has set.
        is_ours: bool,
        never_opened: bool,
        handshaking: bool,
    },
    /// It comes with that of the socket that took the connection over.
    With(Py<Socket>),
    /// All is said; those who wait for its listener's end are to hear that.
    LastWords,
}

/// Coroutines of async handlers that wait.
#[derive(Clone, Copy, Default)]
pub(super) struct Coroutines {
    /// Those that keep the other handlers waiting.
    holders: u16,
    others: u16,
}

impl Socket {
    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn add_coroutine(&self, py: Python<'_>, holds: bool) {
        self.coroutines.with(py, |all| *all.counter(holds) += 1);
    }

    pub fn remove_coroutine(&self, py: Python<'_>, holds: bool) {
        let less = |all: &mut Coroutines| {
            let counter = all.counter(holds);
            *counter = counter.saturating_sub(1);
        };
        self.coroutines.with(py, less);
    }

    pub fn forget_coroutines(&self, py: Python<'_>) {
        self.coroutines.replace(py, Coroutines::default());
    }

    /// A coroutine keeps its other handlers waiting.
    pub fn is_held(&self, py: Python<'_>) -> bool {
        self.coroutines.get(py).holders > 0
    }

    /// The coroutine of its `timeout` handler waits.
    pub fn is_deciding(&self, py: Python<'_>) -> bool {
        self.coroutines.get(py).others > 0
    }

    pub fn has_coroutines(&self, py: Python<'_>) -> bool {
        self.is_held(py) || self.is_deciding(py)
    }

    pub fn set_ending(&self, py: Python<'_>, ending: Ending) {
        drop(self.ending.replace(py, Some(Box::new(ending))));
    }

    /// It is gone for a reason that is still to be told.
    pub fn ends_for_a_reason(&self, py: Python<'_>) -> bool {
        self.ending.with(py, |ending| match ending.as_deref() {
            Some(Ending::Own { error, .. }) => error.is_some(),
            _ => false,
        })
    }

    pub fn take_ending(&self, py: Python<'_>) -> Option<Ending> {
        self.ending.replace(py, None).map(|ending| *ending)
    }
}

impl Coroutines {
    fn counter(&mut self, holds: bool) -> &mut u16 {
        if holds {
            &mut self.holders
        } else {
            &mut self.others
        }
    }
}

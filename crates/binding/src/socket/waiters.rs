//! Who waits for a socket: for bytes to be sent, for TLS, for the end.

use mantou_engine::CloseReason;
use mantou_engine::tls::TlsError;
use pyo3::prelude::*;

use super::{Phase, Socket};
use crate::cell::Guarded;
use crate::errors;
use crate::host;

/// Somebody waits for the socket.
pub(super) enum Goal {
    /// So many bytes sent.
    Sent(u64),
    /// So little waits that more can be sent; that is so at the latest when so many bytes are sent.
    Room(u64),
    /// `open` called, and with TLS the handshake done.
    Ready,
    /// `close` called.
    Told,
    /// And what it returned has come to its end.
    Closed,
}

/// Bytes that may wait when `send()` returns.
const HIGH_WATER: usize = 64 * 1024;

impl Socket {
    /// Wakes those whose bytes have been sent.
    pub fn settle_sent(&self, py: Python<'_>) -> PyResult<()> {
        if self.waiters.with(py, |waiters| waiters.is_empty()) {
            return Ok(());
        }
        let (sent, waiting, broken) = self.with(py, |core, token| {
            let sent = core.progress(token).0;
            (sent, core.waiting(token), core.broken(token))
        })?;
        let has_room = waiting <= HIGH_WATER;
        let (done, still_watching) = self.waiters.with(py, |waiters| {
            let reached = |goal: &Goal| match *goal {
                Goal::Sent(goal) => goal <= sent || broken.is_some(),
                Goal::Room(_) => has_room || broken.is_some(),
                _ => false,
            };
            let (done, rest) = std::mem::take(waiters)
                .into_iter()
                .partition(|(goal, _)| reached(goal));
            *waiters = rest;
            let done: Vec<(Goal, Py<PyAny>)> = done;
            (
                done,
                waiters
                    .iter()
                    .any(|(goal, _)| matches!(goal, Goal::Sent(_) | Goal::Room(_))),
            )
        });
        if !still_watching {
            self.with(py, |core, token| core.watch_sends(token, false))?;
        }
        for (goal, future) in done {
            match goal {
                Goal::Sent(goal) | Goal::Room(goal) if goal > sent && broken.is_some() => {
                    let why = broken.as_ref().map(errors::from_io);
                    let why = why.map(|why| errors::value(py, why).into_any());
                    let lost = errors::value(py, errors::lost_bytes(py, why)).into_bound(py);
                    host::resolve(future.bind(py), Some(lost.as_any()));
                }
                _ => host::resolve(future.bind(py), None),
            }
        }
        Ok(())
    }

    /// Tells all who wait that it is closed.
    pub fn settle_closed(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) {
        let sent = self.farewell.with(py, |farewell| farewell.sent);
        let concludes = !self.has_coroutines(py);
        for (goal, future) in self.waiters.replace(py, Vec::new()) {
            if matches!(goal, Goal::Closed) && !concludes {
                self.waiters
                    .with(py, |waiters| waiters.push((goal, future)));
                continue;
            }
            let future = future.bind(py);
            match goal {
                Goal::Sent(goal) | Goal::Room(goal) if goal > sent => {
                    let lost = errors::lost_bytes(py, error.map(|it| it.clone().unbind()));
                    let lost = errors::value(py, lost).into_bound(py);
                    host::resolve(future, Some(lost.as_any()));
                }
                // Its `open` or `handshake` closed it.
                Goal::Ready => host::resolve(future, error),
                _ => host::resolve(future, None),
            }
        }
    }

    /// Why its connection is lost, of which `close` is still to tell.
    pub fn why_lost(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let known = |slot: &Guarded<Option<Py<PyAny>>>| {
            slot.with(py, |error| error.as_ref().map(|error| error.clone_ref(py)))
        };
        if let Some(failure) = known(&self.failure) {
            return Ok(Some(failure));
        }
        let reason = self.with(py, |core, token| core.why_lost(token))?;
        Ok(match reason {
            Some(CloseReason::Tls(TlsError::Foreign)) => known(&self.driver_error),
            Some(reason) => errors::from_close(py, &reason),
            None => None,
        })
    }

    /// A future that is done when it has ended so far.
    pub(super) fn wait_for_end<'py>(
        &self,
        py: Python<'py>,
        goal: Goal,
    ) -> PyResult<Bound<'py, PyAny>> {
        let future = self.wait_for(py, goal)?;
        self.settle_concluded(py);
        Ok(future)
    }

    /// Wakes those who wait for its end, if it has ended.
    pub fn settle_concluded(&self, py: Python<'_>) {
        if matches!(self.phase.get(py), Phase::Closed | Phase::Failed) {
            self.settle_closed(py, None);
        }
    }

    /// Whether anybody waits.
    pub fn is_awaited(&self, py: Python<'_>) -> bool {
        self.waiters.with(py, |waiters| !waiters.is_empty())
    }

    /// Tells those who wait for it to be ready, if it is.
    pub fn settle_ready(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_awaited(py) && self.is_ready(py)? {
            for future in self.take_waiting(py) {
                host::resolve(future.bind(py), None);
            }
        }
        Ok(())
    }

    /// Tells them that it never will be: an exception of the connection is raised where they wait,
    /// one of ours is what they get.
    pub fn settle_unready(&self, py: Python<'_>, why: &Bound<'_, PyAny>, is_ours: bool) {
        for future in self.take_waiting(py) {
            let future = future.bind(py);
            if is_ours {
                host::resolve_with(future, why);
            } else {
                host::resolve(future, Some(why));
            }
        }
    }

    fn take_waiting(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.waiters.with(py, |waiters| {
            let ready = |(goal, _): &(Goal, _)| matches!(goal, Goal::Ready);
            let (done, rest): (Vec<_>, Vec<_>) =
                std::mem::take(waiters).into_iter().partition(ready);
            *waiters = rest;
            done.into_iter().map(|(_, future)| future).collect()
        })
    }

    /// A future that is done once it is ready, or has failed; `None` if it is ready now. Its result
    /// is the exception of ours that it failed for.
    pub fn readiness(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.is_ready(py)? {
            return Ok(None);
        }
        self.wait_for(py, Goal::Ready)
            .map(|future| Some(future.unbind()))
    }

    /// A future that is done when little enough waits.
    pub(super) fn room<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (waiting, goal) = self.with(py, |core, token| {
            (core.waiting(token), core.progress(token).1)
        })?;
        if waiting <= HIGH_WATER {
            return self.done(py, py.None().bind(py));
        }
        self.with(py, |core, token| core.watch_sends(token, true))?;
        self.wait_for(py, Goal::Room(goal))
    }

    /// A future that is done.
    pub(super) fn done<'py>(
        &self,
        py: Python<'py>,
        result: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let future = self.engine.get().host.future(py)?;
        host::resolve_with(&future, result);
        Ok(future)
    }

    pub(super) fn wait_for<'py>(&self, py: Python<'py>, goal: Goal) -> PyResult<Bound<'py, PyAny>> {
        let future = self.engine.get().host.future(py)?;
        let waiter = future.clone().unbind();
        host::enlist(py, &self.waiters, (goal, waiter), |(_, future)| future);
        Ok(future)
    }
}

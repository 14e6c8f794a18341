//! Interior mutability under the interpreter's lock. One of the files with `unsafe`.
//!
//! Python objects are shared between threads, so they cannot hold plain cells. Two rules make
//! these sound: every access happens with the interpreter's lock held (the module declares that
//! it needs it), and no Python code runs while a value is borrowed, because the closures are
//! given nothing to run it with.

use std::cell::{RefCell, UnsafeCell};
#[cfg(debug_assertions)]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, ffi, intern};

use crate::errors;

/// A value guarded by the interpreter's lock.
#[derive(Default)]
pub struct Guarded<T> {
    value: UnsafeCell<T>,
    /// Whether somebody looks at it: who would be the second breaks the rules. `make debug-test`
    /// asks.
    #[cfg(debug_assertions)]
    borrowed: AtomicBool,
}

// SAFETY: all access takes a `Python` token (or comes from the garbage collector, which runs with
// the lock held), so two threads never meet.
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    pub const fn new(value: T) -> Self {
        Self {
            value: UnsafeCell::new(value),
            #[cfg(debug_assertions)]
            borrowed: AtomicBool::new(false),
        }
    }

    /// Looks at or changes the value. `act` must not run Python code: no calls, no drops of
    /// references that could be the last.
    #[inline]
    pub fn with<R>(&self, _py: Python<'_>, act: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(debug_assertions)]
        let _borrow = Borrow::of(&self.borrowed);
        // SAFETY: the lock is held and `act` runs no Python code, so nobody else is here.
        act(unsafe { &mut *self.value.get() })
    }

    /// Returns the value before; dropping it may run Python code, by then without a borrow.
    pub fn replace(&self, py: Python<'_>, value: T) -> T {
        self.with(py, |place| std::mem::replace(place, value))
    }

    #[inline]
    pub fn get(&self, py: Python<'_>) -> T
    where
        T: Copy,
    {
        self.with(py, |value| *value)
    }

    pub fn traverse(
        &self,
        visit: &PyVisit<'_>,
        each: impl FnOnce(&T, &PyVisit<'_>) -> Result<(), PyTraverseError>,
    ) -> Result<(), PyTraverseError> {
        #[cfg(debug_assertions)]
        let _borrow = Borrow::of(&self.borrowed);
        // SAFETY: the collector runs with the lock held and never in the middle of `with`.
        each(unsafe { &*self.value.get() }, visit)
    }

    /// For the garbage collector's `__clear__`, which brings no token.
    pub fn take(&self) -> T
    where
        T: Default,
    {
        #[cfg(debug_assertions)]
        let _borrow = Borrow::of(&self.borrowed);
        // SAFETY: as in `traverse`.
        std::mem::take(unsafe { &mut *self.value.get() })
    }
}

#[cfg(debug_assertions)]
struct Borrow<'a>(&'a AtomicBool);

#[cfg(debug_assertions)]
impl<'a> Borrow<'a> {
    fn of(borrowed: &'a AtomicBool) -> Self {
        let before = borrowed.swap(true, Ordering::Relaxed);
        assert!(!before, "a guarded value is borrowed twice");
        Self(borrowed)
    }
}

#[cfg(debug_assertions)]
impl Drop for Borrow<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl<T> Guarded<Option<Py<T>>> {
    #[inline]
    pub fn cloned(&self, py: Python<'_>) -> Option<Py<T>> {
        self.with(py, |value| {
            value.as_ref().map(|object| object.clone_ref(py))
        })
    }
}

/// A value that one thread at a time may use: the one that runs its event loop or, while nobody
/// does, whoever comes.
pub struct ThreadBound<T> {
    /// Who came last, or `LEFT_BEHIND`.
    thread: AtomicUsize,
    /// Stands for the event loop, if there is one, and knows who may come next.
    host: Guarded<Option<Py<PyAny>>>,
    cell: RefCell<T>,
}

/// In place of a thread: the value belongs to the process that this one was forked from.
const LEFT_BEHIND: usize = 0;

// SAFETY: whoever calls `with` is called by Python and holds the interpreter's lock, and the value
// offers nothing that would let go of it: two threads never meet in the cell. Dropping happens with
// the last reference, when nobody can be inside.
unsafe impl<T: Send> Sync for ThreadBound<T> {}
// SAFETY: as above; the value itself may be sent.
unsafe impl<T: Send> Send for ThreadBound<T> {}

impl<T> ThreadBound<T> {
    pub fn new(value: T) -> Self {
        Self {
            thread: AtomicUsize::new(this_thread()),
            host: Guarded::new(None),
            cell: RefCell::new(value),
        }
    }

    #[inline]
    pub fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> PyResult<R> {
        // SAFETY: the call takes nothing.
        debug_assert_eq!(unsafe { ffi::PyGILState_Check() }, 1);
        if self.thread.load(Ordering::Relaxed) != this_thread() {
            self.enter()?;
        }
        self.borrow(act)
    }

    /// For questions that may come from any thread. While one has the interpreter's lock nobody is
    /// inside: no borrow outlives it.
    pub fn ask<R>(&self, _py: Python<'_>, question: impl FnOnce(&mut T) -> R) -> PyResult<R> {
        self.borrow(question)
    }

    #[inline]
    fn borrow<R>(&self, act: impl FnOnce(&mut T) -> R) -> PyResult<R> {
        match self.cell.try_borrow_mut() {
            Ok(mut value) => Ok(act(&mut value)),
            Err(_) => Err(errors::reentered()),
        }
    }

    /// The value is this thread's from now on, if nobody else needs it.
    #[cold]
    fn enter(&self) -> PyResult<()> {
        if self.is_left_behind() {
            return Err(errors::left_behind());
        }
        // SAFETY: whoever calls holds the lock, see above. To ask for it would fail while the
        // interpreter ends.
        let py = unsafe { Python::assume_attached() };
        if let Some(host) = self.host.cloned(py)
            && !host
                .call_method0(py, intern!(py, "admits"))?
                .is_truthy(py)?
        {
            return Err(errors::wrong_thread(py));
        }
        self.thread.store(this_thread(), Ordering::Relaxed);
        Ok(())
    }

    pub fn set_host(&self, py: Python<'_>, host: Option<Py<PyAny>>) {
        drop(self.host.replace(py, host));
    }

    /// In a forked child: nobody uses the value any more.
    pub fn leave_behind(&self) {
        self.thread.store(LEFT_BEHIND, Ordering::Relaxed);
    }

    pub fn is_left_behind(&self) -> bool {
        self.thread.load(Ordering::Relaxed) == LEFT_BEHIND
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.host.traverse(visit, |host, visit| visit.call(host))
    }

    pub fn clear(&self) {
        drop(self.host.take());
    }
}

/// Whether this is the interpreter that the process began with. Where there are others, each may have
/// a lock of its own.
pub fn is_main_interpreter(_py: Python<'_>) -> bool {
    // SAFETY: the lock is held, so there is a current interpreter. Both are compared only.
    unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() }
}

/// Whether Python has other threads, which may be waiting for the interpreter's lock.
#[inline]
pub fn has_company(_py: Python<'_>) -> bool {
    // SAFETY: the lock is held, so this thread has a state, which nobody else removes. The others'
    // are not looked into.
    unsafe {
        let own = ffi::PyThreadState_Get();
        let first = ffi::PyInterpreterState_ThreadHead(ffi::PyInterpreterState_Get());
        first != own || !ffi::PyThreadState_Next(own).is_null()
    }
}

/// The address of a thread-local: unique among living threads, and cheaper than a thread id.
#[inline]
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here) as usize)
}

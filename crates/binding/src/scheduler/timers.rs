//! Timers: a heap of handles, from which cancelled ones are removed when they come up or are many.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::handle::TimerHandle;

/// Fewer timers than this are not worth sweeping.
const SWEPT_FROM: usize = 100;

#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Entry>,
    /// How many were ever entered, which puts those of one moment in order.
    count: u64,
    /// Cancelled ones that are still in the heap.
    cancelled: usize,
}

struct Entry {
    when: f64,
    number: u64,
    timer: Py<TimerHandle>,
}

impl Timers {
    pub fn push(&mut self, when: f64, timer: Py<TimerHandle>) {
        self.heap.push(Entry {
            when,
            number: self.count,
            timer,
        });
        self.count += 1;
    }

    pub fn note_cancelled(&mut self) {
        self.cancelled += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    pub fn next_due(&self) -> Option<f64> {
        self.heap.peek().map(|entry| entry.when)
    }

    /// The next timer before `end`.
    pub fn pop_due(&mut self, py: Python<'_>, end: f64) -> Option<Py<TimerHandle>> {
        if self.next_due()? >= end {
            return None;
        }
        self.pop(py)
    }

    /// Takes cancelled ones out: the first, or all if they are more than half.
    pub fn take_cancelled(&mut self, py: Python<'_>) -> Vec<Py<TimerHandle>> {
        let mut taken = Vec::new();
        if self.cancelled == 0 {
            return taken;
        }
        let is_cancelled = |entry: &Entry| entry.timer.bind(py).as_super().get().is_cancelled(py);
        if self.heap.len() > SWEPT_FROM && self.cancelled * 2 > self.heap.len() {
            let mut left = Vec::with_capacity(self.heap.len() - self.cancelled);
            for entry in std::mem::take(&mut self.heap).into_vec() {
                if is_cancelled(&entry) {
                    entry.timer.get().scheduled.replace(py, false);
                    taken.push(entry.timer);
                } else {
                    left.push(entry);
                }
            }
            self.heap = left.into();
            self.cancelled = 0;
        } else {
            while self.heap.peek().is_some_and(is_cancelled) {
                taken.extend(self.pop(py));
            }
        }
        taken
    }

    /// All of them, in order.
    pub fn handles(&self, py: Python<'_>) -> Vec<Py<TimerHandle>> {
        let mut all: Vec<&Entry> = self.heap.iter().collect();
        all.sort_by(|one, other| other.cmp(one));
        all.iter().map(|entry| entry.timer.clone_ref(py)).collect()
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut entries = self.heap.iter();
        entries.try_for_each(|entry| visit.call(&entry.timer))
    }

    fn pop(&mut self, py: Python<'_>) -> Option<Py<TimerHandle>> {
        let timer = self.heap.pop()?.timer;
        timer.get().scheduled.replace(py, false);
        if timer.bind(py).as_super().get().is_cancelled(py) {
            self.cancelled = self.cancelled.saturating_sub(1);
        }
        Some(timer)
    }
}

// The heap has its greatest entry on top: that is the one that is due first.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        let when = other.when.total_cmp(&self.when);
        when.then(other.number.cmp(&self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

//! Files over TLS: read piece by piece into what is gathered, whenever that has been sent.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{CORK_SIZE, Secure};
use crate::file::{FilePart, FileProgress};
use crate::stream::{FILE_BUDGET, Stream};

/// Those that wait, the next one first; few connections ever have one.
#[derive(Default)]
pub(super) struct Files(VecDeque<Waiting>);

struct Waiting {
    part: FilePart,
    /// Bytes of it that were read.
    done: usize,
    /// What was accepted behind it.
    behind: Vec<u8>,
}

impl Waiting {
    fn len(&self) -> usize {
        self.part.count() - self.done + self.behind.len()
    }
}

impl Files {
    #[cold]
    fn len(&self) -> usize {
        self.0.iter().map(Waiting::len).sum()
    }
}

impl Secure {
    pub fn push_file(&mut self, part: FilePart) {
        let files = self.files.get_or_insert_default();
        files.0.push_back(Waiting {
            part,
            done: 0,
            behind: Vec::new(),
        });
    }

    /// Takes back what is not read of a file. What was accepted behind it keeps its place.
    pub fn withdraw_file(&mut self, progress: &Arc<FileProgress>) {
        let files = self.files.iter_mut().flat_map(|files| &mut files.0);
        for file in files.filter(|file| file.part.is_of(progress)) {
            file.part.cut_to(file.done);
        }
    }

    #[inline]
    pub(super) fn waiting_in_files(&self) -> usize {
        self.files.as_ref().map_or(0, |files| files.len())
    }

    /// Where what is accepted now has its place.
    pub(super) fn last(&mut self) -> &mut Vec<u8> {
        match self.files.as_mut().and_then(|files| files.0.back_mut()) {
            Some(last) => &mut last.behind,
            None => &mut self.gathered,
        }
    }

    /// The next piece of a file can be sealed: what came before it is sealed.
    #[inline]
    fn is_ready_for_file(&self) -> bool {
        self.files.is_some() && self.established && !self.dead && self.gathered.is_empty()
    }

    /// Gathers the next piece. Returns how much of a file was read.
    fn gather_from_file(&mut self) -> usize {
        let Some(files) = &mut self.files else {
            return 0;
        };
        let Some(first) = files.0.front_mut() else {
            self.files = None;
            return 0;
        };
        self.gathered.resize(CORK_SIZE, 0);
        let n = first.part.read(&mut self.gathered, first.done);
        self.gathered.truncate(n);
        first.done += n;
        if n == 0 || first.done == first.part.count() {
            self.gathered.append(&mut first.behind);
            files.0.pop_front();
            if files.0.is_empty() {
                self.files = None;
            }
        }
        self.wants_pump |= self.is_foreign() && !self.gathered.is_empty();
        n
    }
}

impl Stream {
    /// Whether a file waits for nothing but room in the kernel.
    #[inline]
    pub(in crate::stream) fn waits_for_file(&self) -> bool {
        let secure = self.secure.as_ref();
        secure.is_some_and(|secure| secure.is_ready_for_file()) && self.broken.is_none()
    }

    /// Seals and sends pieces of a file for as long as the kernel takes them.
    #[inline]
    pub(in crate::stream) fn go_on_with_file(&mut self) {
        if self.waits_for_file() {
            self.send_from_file();
        }
    }

    #[cold]
    fn send_from_file(&mut self) {
        let mut left = FILE_BUDGET;
        while left > 0 && self.queue.is_empty() && self.waits_for_file() {
            let Some(secure) = &mut self.secure else {
                return;
            };
            left = left.saturating_sub(secure.gather_from_file());
            let may_finish = self.seal();
            self.send_sealed(may_finish);
        }
    }
}

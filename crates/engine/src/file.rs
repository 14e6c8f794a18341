//! Files that are sent: a part of one, and how far it has come.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::sys::net;

/// How far a file has come, for whoever waits for it.
#[derive(Default)]
pub struct FileProgress {
    sent: AtomicU64,
    errno: AtomicI32,
}

impl FileProgress {
    /// Bytes that were taken from it.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Why it could not be read.
    pub fn error(&self) -> Option<io::Error> {
        let errno = self.errno.load(Ordering::Relaxed);
        (errno != 0).then(|| io::Error::from_raw_os_error(errno))
    }
}

/// So many bytes of a file, from an offset on. There may turn out to be fewer.
pub struct FilePart {
    file: File,
    offset: u64,
    count: usize,
    progress: Arc<FileProgress>,
}

impl FilePart {
    /// Takes over the file's descriptor.
    pub fn own(fd: RawFd, offset: u64, count: usize) -> io::Result<Self> {
        Ok(Self {
            file: net::own(fd)?.into(),
            offset,
            count,
            progress: Arc::default(),
        })
    }

    pub fn progress(&self) -> Arc<FileProgress> {
        Arc::clone(&self.progress)
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether it is the one that somebody waits for.
    pub(crate) fn is_of(&self, progress: &Arc<FileProgress>) -> bool {
        Arc::ptr_eq(&self.progress, progress)
    }

    /// Has it end sooner.
    pub(crate) fn cut_to(&mut self, count: usize) {
        self.count = count;
    }

    /// Has the kernel send from it, all but the first `done` bytes, `most` of them. Nothing is the
    /// end of what there is; an error is the socket's.
    pub(crate) fn send(&self, to: BorrowedFd<'_>, done: usize, most: usize) -> io::Result<usize> {
        let most = most.min(self.count - done);
        match net::send_file(to, self.file.as_fd(), self.offset + done as u64, most) {
            Err(error) if !is_of_connection(&error) => Ok(self.fail(&error)),
            result => result.inspect(|n| self.note(*n)),
        }
    }

    /// Reads all but the first `done` bytes, as many as there is room for. Nothing is the end of
    /// what there is.
    pub(crate) fn read(&self, buffer: &mut [u8], done: usize) -> usize {
        let size = buffer.len().min(self.count - done);
        loop {
            match self
                .file
                .read_at(&mut buffer[..size], self.offset + done as u64)
            {
                Ok(n) => {
                    self.note(n);
                    return n;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fail(&error),
            }
        }
    }

    fn note(&self, n: usize) {
        self.progress.sent.fetch_add(n as u64, Ordering::Relaxed);
    }

    fn fail(&self, error: &io::Error) -> usize {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        self.progress.errno.store(errno, Ordering::Relaxed);
        0
    }
}

/// sendfile(2) does not say which of the two descriptors it failed for.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EAGAIN
                | libc::EINTR
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EPIPE
                | libc::ENOTCONN
                | libc::ECONNRESET
                | libc::ECONNABORTED
                | libc::ETIMEDOUT
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ENETDOWN
        )
    )
}

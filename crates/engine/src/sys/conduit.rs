//! A pipe of the kernel's, through which bytes go from one socket to another without being copied.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// As much as anybody may have without privileges (`pipe-max-size`).
const SIZE: libc::c_int = 1 << 20;

pub struct Conduit {
    exit: OwnedFd,
    entry: OwnedFd,
}

impl Conduit {
    pub fn new() -> io::Result<Self> {
        let mut fds = [-1; 2];
        // SAFETY: the kernel writes two descriptors.
        if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just returned them to us alone.
        let [exit, entry] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        // Where that is refused it stays smaller.
        // SAFETY: asks about a descriptor of ours.
        unsafe { libc::fcntl(entry.as_raw_fd(), libc::F_SETPIPE_SZ, SIZE) };
        Ok(Self { exit, entry })
    }

    /// So many bytes of a socket at most; 0 is the peer's FIN.
    pub fn fill(&self, from: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        splice(from.as_raw_fd(), self.entry.as_raw_fd(), count)
    }

    /// Has a socket send them, as many as it has room for.
    pub fn pour(&self, to: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        splice(self.exit.as_raw_fd(), to.as_raw_fd(), count)
    }

    /// What is in it, as bytes.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (data, len) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the pointer and the length are those of one live, exclusive slice.
        let n = unsafe { libc::read(self.exit.as_raw_fd(), data, len) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}

fn splice(from: libc::c_int, to: libc::c_int, count: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let nowhere = std::ptr::null_mut();
    // SAFETY: there are no offsets to point to.
    let n = unsafe { libc::splice(from, nowhere, to, nowhere, count, flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

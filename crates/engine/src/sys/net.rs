//! The socket calls of the hot path, and the few that socket2 does not offer safely.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use socket2::{SockAddr, SockRef};

/// The kernel's `UIO_MAXIOV`.
const MAX_PIECES: usize = 1024;

/// Bytes received into `buffer`; 0 is the peer's FIN.
pub fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one live, exclusive slice.
    let n = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// The same, and they stay where they are.
pub fn peek(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (data, len) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the pointer and the length are those of one live, exclusive slice.
    let n = unsafe { libc::recv(fd.as_raw_fd(), data, len, libc::MSG_PEEK) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Whether nothing will come but what has come already.
pub fn has_finished(fd: BorrowedFd<'_>) -> bool {
    let mut question = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: it is one question, which lives across the call.
    unsafe { libc::poll(&raw mut question, 1, 0) > 0 }
}

/// Bytes taken by the kernel, as many as it has room for right now.
pub fn send(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one live slice.
    let n = unsafe {
        libc::send(
            fd.as_raw_fd(),
            data.as_ptr().cast(),
            data.len(),
            libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Sends what the kernel takes, which is not all if it has no room or there are very many pieces.
pub fn send_vectored(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // Of more it takes nothing at all: EMSGSIZE.
    let slices = &slices[..slices.len().min(MAX_PIECES)];
    SockRef::from(&fd).send_vectored_with_flags(slices, libc::MSG_NOSIGNAL)
}

/// Sends so many bytes of a file at most, from an offset on, as many as the kernel has room for.
pub fn send_file(
    fd: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    let mut offset =
        libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: the offset lives across the call, and nothing else is pointed to.
    let n = unsafe { libc::sendfile(fd.as_raw_fd(), file.as_raw_fd(), &raw mut offset, count) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// One connection from the listener's queue, non-blocking, with the peer's address.
pub fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SockAddr)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes at most `length` bytes of an address and sets `length` to match.
    unsafe {
        SockAddr::try_init(|address, length| {
            let accepted = libc::accept4(fd.as_raw_fd(), address.cast(), length, flags);
            if accepted < 0 {
                return Err(io::Error::last_os_error());
            }
            // The kernel just returned this descriptor to us alone.
            Ok(OwnedFd::from_raw_fd(accepted))
        })
    }
}

/// Breaks a TCP connection with a RST and throws away what is unsent: connecting to no address
/// disconnects, for everybody who holds the socket. (With `SO_LINGER` the kernel would wait for the
/// last of them to close it.)
pub fn disconnect(fd: BorrowedFd<'_>) -> io::Result<()> {
    let nowhere = libc::sockaddr {
        sa_family: libc::sa_family_t::try_from(libc::AF_UNSPEC).unwrap_or_default(),
        sa_data: [0; 14],
    };
    let length = libc::socklen_t::try_from(size_of_val(&nowhere)).unwrap_or_default();
    // SAFETY: the pointer and the length are those of one live address.
    if unsafe { libc::connect(fd.as_raw_fd(), &raw const nowhere, length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends our FIN and takes nothing more, for everybody who holds the socket. A connection that is
/// gone already has no more to finish.
pub fn finish(fd: BorrowedFd<'_>) {
    let _ = SockRef::from(&fd).shutdown(std::net::Shutdown::Both);
}

/// Bytes that the kernel holds and the peer has not acknowledged; of a unix socket, not read.
pub fn unacknowledged(fd: BorrowedFd<'_>) -> usize {
    ask(fd, libc::TIOCOUTQ)
}

/// Bytes that the kernel holds and has not sent even once. Unix sockets have none.
pub fn unsent(fd: BorrowedFd<'_>) -> usize {
    /// `linux/sockios.h`; libc does not have it.
    const SIOCOUTQNSD: libc::Ioctl = 0x894B;
    ask(fd, SIOCOUTQNSD)
}

/// Bytes that the kernel would take to send right now, as TCP reckons. None where it does not tell.
pub fn send_room(fd: BorrowedFd<'_>) -> usize {
    /// Places in what `SO_MEMINFO` tells (`linux/sock_diag.h`): the limit, and what counts for it.
    const SK_MEMINFO_SNDBUF: usize = 3;
    const SK_MEMINFO_WMEM_QUEUED: usize = 5;
    let mut told = [0; 64];
    let Ok(n) = option(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut told) else {
        return 0;
    };
    let number = |place: usize| {
        let bytes = told[..n].get(4 * place..4 * place + 4)?;
        let number = u32::from_ne_bytes(bytes.try_into().ok()?);
        usize::try_from(number).ok()
    };
    let limit = number(SK_MEMINFO_SNDBUF).unwrap_or(0);
    limit.saturating_sub(number(SK_MEMINFO_WMEM_QUEUED).unwrap_or(limit))
}

/// A number of bytes, as ioctl(2) tells it; none where the socket cannot say.
fn ask(fd: BorrowedFd<'_>, question: libc::Ioctl) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both questions are answered with one int.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), question, &raw mut bytes) };
    if result < 0 {
        0
    } else {
        usize::try_from(bytes).unwrap_or(0)
    }
}

/// The kernel's `struct tcp_info`, as much of it as this kernel has.
pub fn tcp_info(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut info = [0; 512];
    let n = option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    Ok(info[..n].to_vec())
}

/// Process, user and group of whoever connected a unix socket, or listened where it was connected to.
pub fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<(i32, u32, u32)> {
    let mut credentials = [0; 12];
    option(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut credentials)?;
    let [pid, uid, gid] = [0, 4, 8].map(|at| {
        let [a, b, c, d] = [0, 1, 2, 3].map(|byte| credentials[at + byte]);
        [a, b, c, d]
    });
    Ok((
        i32::from_ne_bytes(pid),
        u32::from_ne_bytes(uid),
        u32::from_ne_bytes(gid),
    ))
}

/// Reads a socket option into the front of `value`; tells how long it is.
fn option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the pointer and the length are those of one live, exclusive slice.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(length).unwrap_or(0).min(value.len()))
}

/// What broke the connection, if the kernel still knows; asking clears it.
pub fn take_error(fd: BorrowedFd<'_>) -> Option<io::Error> {
    SockRef::from(&fd).take_error().unwrap_or_else(Some)
}

/// Takes over a descriptor that its owner hands to us by number.
pub fn own(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: asks about a number, whatever it stands for.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and by contract nobody but us closes it from now on.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives a descriptor back to whoever knows its number.
pub fn disown(fd: OwnedFd) {
    let _ = fd.into_raw_fd();
}

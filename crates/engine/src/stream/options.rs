//! Socket options, set from settings.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::Settings;

/// Makes a connected descriptor ours to use; tells who is at the other end.
pub fn prepare(fd: &OwnedFd, settings: &Settings) -> io::Result<Option<SocketAddr>> {
    let socket = SockRef::from(fd);
    let remote = socket.peer_addr()?.as_socket();
    socket.set_nonblocking(true)?;
    if remote.is_some() {
        apply_tcp_options(fd, settings)?;
    }
    Ok(remote)
}

/// `TCP_NODELAY` and keep-alive, which only TCP has.
pub fn apply_tcp_options(fd: &OwnedFd, settings: &Settings) -> io::Result<()> {
    let socket = SockRef::from(fd);
    if settings.no_delay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(delay) = settings.keep_alive {
        set_keep_alive(&socket, true, delay)?;
    }
    Ok(())
}

/// Keep-alive with this idle time before the first probe; zero leaves the system's.
pub fn set_keep_alive(socket: &SockRef<'_>, enable: bool, delay: Duration) -> io::Result<()> {
    if enable && !delay.is_zero() {
        // The kernel counts whole seconds, from 1 to 32767.
        let whole = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        let delay = Duration::from_secs(whole.min(32767));
        return socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(delay));
    }
    socket.set_keepalive(enable)
}

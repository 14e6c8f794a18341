//! Socket options, set from settings.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::Settings;

/// So many answers may get lost before a peer is given up, if the time suffices.
const PROBES: u32 = 3;

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

/// `TCP_NODELAY`, keep-alive and its like, which only TCP has.
pub fn apply_tcp_options(fd: &OwnedFd, settings: &Settings) -> io::Result<()> {
    let socket = SockRef::from(fd);
    if settings.no_delay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(delay) = settings.keep_alive {
        set_keep_alive(&socket, true, delay)?;
    }
    if let Some(time) = settings.dead_after {
        set_dead_after(&socket, time)?;
    }
    Ok(())
}

/// Has the kernel give up a peer that answers neither probes, while nothing is sent, nor what is
/// sent. With the user timeout set it does not count probes: it looks at the time whenever the next
/// one is due. So the last of them has to be due when the time is over, and not just before.
fn set_dead_after(socket: &SockRef<'_>, time: Duration) -> io::Result<()> {
    let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(2);
    let probes = (seconds - 1).min(PROBES);
    let interval = (seconds / (probes + 2)).max(1);
    let idle = seconds - probes * interval;
    let probing = TcpKeepalive::new()
        .with_time(Duration::from_secs(idle.into()))
        .with_interval(Duration::from_secs(interval.into()))
        .with_retries(probes);
    socket.set_tcp_keepalive(&probing)?;
    // The kernel's timers tick in steps of up to 10 ms.
    socket.set_tcp_user_timeout(Some(time.saturating_sub(Duration::from_millis(20))))
}

impl Settings {
    /// Whether it is for `dead_after` that the kernel says so. It names what the network said last,
    /// if that said anything: no such error ends a connection by itself.
    pub fn is_death(&self, error: &io::Error) -> bool {
        let is_of_network = matches!(
            error.raw_os_error(),
            Some(
                libc::ETIMEDOUT
                    | libc::EHOSTUNREACH
                    | libc::ENETUNREACH
                    | libc::EHOSTDOWN
                    | libc::ENETDOWN
                    | libc::ENONET
            )
        );
        self.dead_after.is_some() && is_of_network
    }
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

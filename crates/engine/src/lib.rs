//! Sockets driven by readiness events.

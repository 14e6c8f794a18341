"""TCP, unix and TLS sockets with the API of Bun."""

"""Real programs with real servers, unchanged, on mantou's loop: `make program-suites`."""

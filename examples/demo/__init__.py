"""What mantou does, shown on real sockets: `python -m examples.demo`."""

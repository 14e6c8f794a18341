"""A server that Redis's clients take for one, and a client that pipelines."""

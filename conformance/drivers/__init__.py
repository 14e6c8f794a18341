"""The two programs that do what scenarios say: one on mantou, one on Bun."""

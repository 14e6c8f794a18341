"""Programs for those who work on mantou; not part of the package."""

"""One for SQLite."""

"""One for PostgreSQL."""

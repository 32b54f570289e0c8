"""The fan-out of one process, and publishing: they meet in the event log."""

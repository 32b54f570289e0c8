"""The monitor: all open streams of all processes."""

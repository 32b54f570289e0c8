"""Runs: work that writes a topic under a lease, outlives its readers, can be stopped, and ends with a reason."""

"""Notifications: what says that a topic has more, in this process and across processes."""

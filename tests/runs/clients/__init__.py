"""Clients of agent protocols as they are published, against routes of runs."""

"""Builds that are defined in settings, run by the server, and watched while they run."""

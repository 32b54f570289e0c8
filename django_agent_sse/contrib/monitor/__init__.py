"""The monitor: an app that shows all open streams of all processes. See ``apps``."""

"""Management commands: publish, tail, run, list and trim topics from a terminal, a script or cron."""

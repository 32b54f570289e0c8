"""Tests of the test project: its parts, its streams on a real server, its page in Chromium, its demo in a process."""

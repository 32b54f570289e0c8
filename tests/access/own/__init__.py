"""``python -m tests.access.own DATABASE``: a project whose users are a model of its own, and what ends their streams."""

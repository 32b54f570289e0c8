"""The event log: topics of numbered events, and where they are kept."""

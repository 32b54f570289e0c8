"""Threads, database connections and failures of this process: what everything above runs on."""

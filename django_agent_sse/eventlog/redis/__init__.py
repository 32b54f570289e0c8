"""The event log in Redis or Valkey: every process and machine reads what any of them publishes."""

from .log import RedisEventLog

__all__ = ["RedisEventLog"]

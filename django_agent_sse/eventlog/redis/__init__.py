"""The event log in Redis or Valkey: every process and machine reads what any of them publishes."""

try:
    from .log import RedisEventLog
except ModuleNotFoundError as error:
    if error.name not in ("redis", "django_redis"):
        raise
    raise ImportError("it needs redis-py: pip install 'django-agent-sse[redis]'", name=error.name) from error

__all__ = ["RedisEventLog"]

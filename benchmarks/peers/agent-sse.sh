#!/bin/sh
# last-event-id: 0
export PYTHONPATH="$AGENT_SSE"
exec "$VENV/bin/uvicorn" --app-dir "$AGENT_SSE/benchmarks" --host 127.0.0.1 --port "$PORT" --loop uvloop --http httptools --no-access-log --log-level warning --backlog 4096 --lifespan off app:application

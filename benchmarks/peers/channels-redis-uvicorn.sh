#!/bin/sh
# needs: redis
# no-replay: it keeps no events
export FANOUT=channels-redis
exec "$VENV/bin/uvicorn" --host 127.0.0.1 --port "$PORT" --loop uvloop --http httptools --no-access-log --log-level warning --backlog 4096 --lifespan off eventstream_app:app

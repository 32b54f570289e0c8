#!/bin/sh
# last-event-id: 0
# sseload: --header Accept-Encoding:gzip
exec sh "$AGENT_SSE/benchmarks/peers/agent-sse.sh"

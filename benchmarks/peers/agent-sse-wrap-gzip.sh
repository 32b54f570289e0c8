#!/bin/sh
# last-event-id: 0
# sseload: --header Accept-Encoding:gzip
export WRAP=1
exec sh "$AGENT_SSE/benchmarks/peers/agent-sse.sh"

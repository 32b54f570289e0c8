#!/bin/sh
# last-event-id: 0
export WRAP=1 UNLIMITED=1
exec sh "$AGENT_SSE/benchmarks/peers/agent-sse.sh"

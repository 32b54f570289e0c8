#!/bin/sh
# last-event-id: 0
export BARE=1 WRAP=1
exec sh "$AGENT_SSE/benchmarks/peers/agent-sse.sh"

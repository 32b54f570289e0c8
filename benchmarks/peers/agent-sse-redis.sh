#!/bin/sh
# needs: redis
# last-event-id: 0
export LOG=redis
exec sh "$AGENT_SSE/benchmarks/peers/agent-sse.sh"

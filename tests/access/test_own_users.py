"""Users of a model of the project's own: UUIDs as keys, no hash of a session, no permissions, a proxy; sessions in a cache."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests import warm

ENDS = '{"reason":"revoked"}'


def test_streams_end_with_the_access_of_users_of_a_projects_own_model(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.access.own", str(tmp_path / "db.sqlite3")]
    done = warm.run(command, cwd=warm.ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "session: deactivated": [ENDS, 401, False],
        "session: deleted with what they belong to": [ENDS, 401, False],
        "session: signs out": [ENDS, 401, False],
        "session: group deleted by its proxy": [ENDS, 403, False],
        "session: membership deleted": [ENDS, 403, False],
        "session: membership handed over": [ENDS, 403, False],
        "proxy: deactivated": [ENDS, None, False],
        "proxy: deleted with what they belong to": [ENDS, None, False],
        "proxy: group deleted by its proxy": [ENDS, None, False],
        "proxy: membership deleted": [ENDS, None, False],
        "proxy: membership handed over": [ENDS, None, False],
    }

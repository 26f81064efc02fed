"""The embedded stack's own promises: a folder has one owner, and a polite end leaves nothing running."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gridtokenx_pipelines.embedded_postgres import stop_postgres
from gridtokenx_pipelines.stack import Stack, StackError, folder_lock

OWNER = """
import sys, time
from pathlib import Path
from gridtokenx_pipelines.stack import Stack
with Stack(Path(sys.argv[1])) as stack:
    stack.postgres()
    child = stack.start("child", ["http.server", "--bind", "127.0.0.1", "0"])
    print(child.process.pid, flush=True)
    time.sleep(60)
"""


def test_sigterm_ends_the_children_and_the_database(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        child = Path("/proc") / owner.stdout.readline().strip()
        assert child.exists()
        owner.send_signal(signal.SIGTERM)
        assert owner.wait(30) == 128 + signal.SIGTERM
        assert not child.exists()
        assert not (tmp_path / "pg" / "postmaster.pid").exists()
    finally:
        owner.kill()
        owner.communicate()
        stop_postgres(tmp_path)


def test_a_folder_has_one_owner_and_the_signal_s_handler_is_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stack(tmp_path), pytest.raises(StackError, match="is in use by process"), folder_lock(tmp_path):
        pass
    assert signal.getsignal(signal.SIGTERM) is before

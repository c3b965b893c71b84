"""``assent doctor``: each check is shown passing and failing, and each failure has its next step."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exchange.settings import Settings, load_settings
from exchange.up import doctor
from exchange.up.doctor import Finding

ROOT = Path(__file__).resolve().parents[3]


def settings_in(folder: Path, **changes: str) -> Settings:
    return load_settings({"ASSENT_DATA_DIR": str(folder / "data"), **changes})


def checks(folder: Path, **changes: str) -> tuple[int, dict[str, dict[str, str]]]:
    """What the command itself prints on this machine."""
    done = subprocess.run(
        [sys.executable, "-m", "exchange", "doctor", "--json"],
        env={"PATH": os.environ["PATH"], "ASSENT_DATA_DIR": str(folder / "data"), **changes},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout)
    assert told["ok"] is (done.returncode == 0)
    return done.returncode, {one["check"]: one for one in told["checks"]}


def test_it_names_what_is_wrong_and_changes_nothing(tmp_path: Path, anvil_path: Path) -> None:
    free = {"ASSENT_API__PORT": "0", "ASSENT_LEDGER__PORT": "0"}
    code, found = checks(tmp_path, **free)
    assert code == 0, [one for one in found.values() if one["state"] == "missing"]
    assert {"python", "libraries", "confinement", "anvil", "disk sync", "deployment"} <= set(found)
    code, found = checks(tmp_path, **free, ASSENT_API__PROT="1")
    assert code == 1
    assert found["settings"]["state"] == "missing"
    assert "ASSENT_API__PORT" in found["settings"]["fix"]
    assert not (tmp_path / "data").exists()


def test_every_finding_that_is_not_fine_says_what_to_do(tmp_path: Path) -> None:
    for one in doctor.examine():
        assert (one.fix == "") is (one.state == "ok"), one


def test_python_and_sqlite() -> None:
    assert doctor.check_python((3, 11)).state == "ok"
    assert doctor.check_python((3, 10)).state == "missing"
    assert doctor.check_python((3, 14)).state == "missing"
    assert doctor.check_sqlite((3, 51, 3)).state == "ok"
    assert doctor.check_sqlite((3, 40, 1)).state == "note"


def test_a_clock_in_the_past_is_wrong() -> None:
    assert doctor.check_clock(datetime(2020, 1, 1, tzinfo=UTC)).state == "missing"
    assert doctor.check_clock(datetime(2027, 1, 1, tzinfo=UTC)).state in ("ok", "note")


def test_missing_libraries_are_named_with_whom_they_fail() -> None:
    found = {one.check: one for one in doctor.check_libraries(lambda name: name != "dbos")}
    assert found["dbos"] == Finding(
        "dbos", "missing", "is not installed; the worker needs it", "run `make setup`"
    )
    assert "libraries" not in found
    found = {one.check: one for one in doctor.check_libraries(lambda name: name != "torch")}
    assert (found["torch"].state, found["libraries"].state) == ("note", "ok")


def test_a_child_that_is_not_confined_is_noticed() -> None:
    assert doctor.check_confinement("raise SystemExit(1)").state == "missing"
    assert doctor.check_confinement("raise SystemExit(0)").state == "ok"


def test_the_chain_of_one_operator_is_a_note(tmp_path: Path) -> None:
    assert doctor.check_chain(settings_in(tmp_path)).state == "note"
    shared = {"ASSENT_LEDGER__RPC_URL": "https://node.example", "ASSENT_LEDGER__FINALITY": "depth"}
    assert doctor.check_chain(settings_in(tmp_path, **shared)).state == "ok"
    assert doctor.check_anvil(settings_in(tmp_path, **shared)).found.startswith("not needed")


def test_a_folder_that_others_may_read_is_not_ours_alone(tmp_path: Path) -> None:
    assert doctor.check_folder(tmp_path / "new" / "data").state == "ok"
    mine = tmp_path / "data"
    mine.mkdir(mode=0o700)
    assert doctor.check_folder(mine).state == "ok"
    mine.chmod(0o750)
    assert doctor.check_folder(mine).fix == f"chmod 700 {mine}"


def test_a_secret_that_others_may_read_is_named(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    root = settings.data_dir / "keys" / "root.key"
    root.parent.mkdir(parents=True)
    root.touch(mode=0o600)
    assert [one.state for one in doctor.check_secrets(settings)] == ["ok"]
    root.chmod(0o644)
    assert [one.fix for one in doctor.check_secrets(settings)] == [f"chmod 600 {root}"]


def test_a_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    assert doctor.check_space(tmp_path / "not yet").found.endswith("MiB free")
    for free, state in ((1 << 20, "missing"), (1 << 30, "note"), (1 << 40, "ok")):
        told = usage._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, told=told: told)
        assert doctor.check_space(tmp_path / "not yet").state == state


def test_a_taken_port_is_ours_or_anothers(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        settings = settings_in(tmp_path, ASSENT_API__PORT=port, ASSENT_LEDGER__PORT="0")
        found = next(iter(doctor.check_ports(settings)))
        assert (found.state, found.fix) == ("missing", "stop it, or set ASSENT_API__PORT")
        settings.run_dir.mkdir(parents=True)
        with (settings.run_dir / "up.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert doctor.is_running(settings.run_dir)
            assert next(iter(doctor.check_ports(settings))).state == "ok"
        assert not doctor.is_running(settings.run_dir)


def test_a_postgresql_answers_or_does_not(tmp_path: Path, postgres_url: str) -> None:
    url = postgres_url.replace("+psycopg", "")
    found = list(doctor.check_databases(settings_in(tmp_path, ASSENT_DATABASE_URL=url)))
    assert [(one.check, one.state) for one in found] == [("store", "ok")]
    away = "postgresql://user:canary@127.0.0.1:1/exchange"
    found = list(doctor.check_databases(settings_in(tmp_path, ASSENT_KEYS_DATABASE_URL=away)))
    assert [(one.check, one.state) for one in found] == [("keys store", "missing")]
    assert "canary" not in str(found)
    assert list(doctor.check_databases(settings_in(tmp_path))) == []


def test_a_deployment_that_cannot_be_read_is_noticed(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert doctor.check_deployment(settings).state == "ok"
    settings.data_dir.mkdir()
    settings.deployment_file.write_text("{}")
    found = doctor.check_deployment(settings)
    assert found.state == "missing"
    assert found.fix

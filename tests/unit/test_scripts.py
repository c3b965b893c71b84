"""The installing scripts refuse what they cannot vouch for, and say what to do next."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile

import pytest

from tests.architecture import ROOT


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


anvil, bootstrap, lock = load("fetch_anvil"), load("bootstrap"), load("lock")


def packed(member, content):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        entry = tarfile.TarInfo(member)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def test_a_package_is_installed_when_its_digest_is_the_locked_one(tmp_path):
    data = packed(anvil.MEMBER, b"binary")
    anvil.check(data, anvil.integrity(data))
    anvil.unpack(data, tmp_path / "bin" / "anvil")
    assert (tmp_path / "bin" / "anvil").read_bytes() == b"binary"
    assert (tmp_path / "bin" / "anvil").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["anvil"]


def test_one_changed_byte_is_refused():
    data = packed(anvil.MEMBER, b"binary")
    with pytest.raises(anvil.Refused, match="sha512"):
        anvil.check(data + b"\0", anvil.integrity(data))


def test_a_platform_without_a_digest_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(anvil, "TARGET", tmp_path / "anvil")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(anvil.Refused, match="no digest is locked for plan9-mips"):
        anvil.fetch("plan9-mips")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_package_is_not_installed(tmp_path, monkeypatch):
    name = next(iter(json.loads(anvil.LOCK.read_text())["integrity"]))
    monkeypatch.setattr(anvil, "TARGET", tmp_path / "anvil")
    monkeypatch.setattr(anvil, "pack", lambda *_: packed(anvil.MEMBER, b"another"))
    with pytest.raises(anvil.Refused, match="sha512"):
        anvil.fetch(name)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "CACHE", tmp_path / ".cache")
    monkeypatch.setattr(bootstrap, "LOGS", tmp_path / ".cache" / "logs")
    monkeypatch.setattr(bootstrap, "STAMPS", tmp_path / ".stamps")
    monkeypatch.setattr(bootstrap, "TORCH_READY", tmp_path / ".torch-ready")
    monkeypatch.setattr(bootstrap, "TORCH_FAILED", tmp_path / ".torch-failed")
    return tmp_path


def test_a_step_runs_once_until_what_it_depends_on_changes(elsewhere, capsys):
    runs = []
    for wanted in ("a", "a", "b"):
        bootstrap.stamped("step", wanted, lambda: runs.append(1), say="working")
    assert len(runs) == 2
    assert "working" in capsys.readouterr().out


def test_a_failed_step_says_what_and_what_next_and_leaves_no_stamp(elsewhere):
    def work():
        command = ["/bin/sh", "-c", "echo out of ink; exit 3"]
        bootstrap.execute("printer", command, hint="fill it")

    with pytest.raises(bootstrap.StepFailed) as failure:
        bootstrap.stamped("printer", "x", work, say="printing")
    said = str(failure.value)
    assert "printer: failed (exit 3)" in said
    assert "out of ink" in said
    assert "next: fill it" in said
    assert not (elsewhere / ".stamps" / "printer").exists()


def test_torch_leaves_the_marker_of_how_it_went(elsewhere, monkeypatch):
    monkeypatch.setattr(bootstrap, "torch_version", lambda: "2.13.0")

    def fails(_):
        raise bootstrap.StepFailed("torch: no\n  next: something")

    monkeypatch.setattr(bootstrap, "install_torch", fails)
    with pytest.raises(bootstrap.StepFailed):
        bootstrap.torch_step("auto")
    assert "next: something" in bootstrap.TORCH_FAILED.read_text()
    assert bootstrap.torch_wanted("auto")

    monkeypatch.setattr(bootstrap, "install_torch", lambda _: None)
    bootstrap.torch_step("auto")
    assert bootstrap.TORCH_READY.exists()
    assert not bootstrap.TORCH_FAILED.exists()
    assert not bootstrap.torch_wanted("auto")
    assert bootstrap.torch_wanted("cpu")


def test_children_do_not_inherit_what_slows_or_redirects_them(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", "elsewhere")
    given = bootstrap.environment()
    assert not {"PYTHONDONTWRITEBYTECODE", "UV_PROJECT_ENVIRONMENT"} & given.keys()
    assert given["UV_NO_CONFIG"] == "1"


@pytest.mark.parametrize(("words", "build"), [(["nonsense"], "auto"), (["demo"], "gpu")])
def test_an_unknown_wish_installs_nothing(elsewhere, monkeypatch, capsys, words, build):
    monkeypatch.setenv("TORCH", build)
    assert bootstrap.main(words) == 1
    assert "next: one of" in capsys.readouterr().err
    assert list(elsewhere.iterdir()) == []


def test_a_lock_is_read_block_by_block():
    text = (
        "a==1 \\\n    --hash=sha256:aa\nb==2 ; sys_platform == 'never' \\\n    --hash=sha256:bb\n"
    )
    assert lock.blocks(text) == {"a": "a==1 \\\n    --hash=sha256:aa\n"}

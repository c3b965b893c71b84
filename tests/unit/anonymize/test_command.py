"""`python -m anonymize`: files in, files out, errors with a position."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from anonymize import __main__ as command
from anonymize.errors import KeyUnusable
from anonymize.keys import DeidentificationKey


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "deid.key"
    DeidentificationKey.generate().save(path)
    return path


@pytest.fixture(autouse=True)
def torch_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "block_torch", lambda: True)


def test_a_key_file_is_private_and_never_overwritten(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    loaded = DeidentificationKey.load(key)
    with pytest.raises(KeyUnusable):
        loaded.save(key)
    assert key.read_text().strip() not in repr(loaded)
    key.write_text("short")
    with pytest.raises(KeyUnusable):
        DeidentificationKey.load(key)


def test_run_and_inspect(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out, report = tmp_path / "in.ndjson", tmp_path / "out.ndjson", tmp_path / "r.json"
    lines = [{"subject": "a", "text": "SSN 123-45-6789"}, {"subject": "a", "text": "x\0"}]
    source.write_text("\n".join(json.dumps(line) for line in lines))
    run = ["run", "--kind", "note", "--input", str(source), "--key", str(key)]
    assert command.main([*run, "--output", str(out), "--report", str(report)]) == 1
    captured = capsys.readouterr()
    assert "in.ndjson line 2: held: binary" in captured.err
    assert "123-45" not in out.read_text()
    assert '"a"' not in out.read_text()
    assert json.loads(report.read_text())["released"] == 1
    assert command.main(["inspect", "--kind", "note", "--input", str(source), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["found"]
    assert found[0]["findings"] == {"SSN": 1}
    assert found[1]["findings"] == {"unjudged: binary": 1}
    assert command.main(["inspect", "--kind", "note", "--input", str(out)]) == 0
    # An output that exists is not overwritten.
    assert command.main([*run, "--output", str(out)]) == 2


def test_bad_input_is_named(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.ndjson"
    source.write_bytes(b'{"subject": "a", "text": "\xff"}')
    run = ["run", "--kind", "note", "--input", str(source), "--key", str(key)]
    assert command.main([*run, "--output", str(tmp_path / "o")]) == 2
    assert "in.ndjson line 1: bad-encoding" in capsys.readouterr().err
    absent = ["inspect", "--kind", "note", "--input", str(tmp_path / "absent")]
    assert command.main(absent) == 2


def test_fhir_and_rows(key: Path, tmp_path: Path) -> None:
    patient = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Quix"}]}
    condition = {
        "resourceType": "Condition",
        "subject": {"reference": "Patient/p1"},
        "note": [{"text": "quix feels better"}],
    }
    source, out = tmp_path / "f.ndjson", tmp_path / "f.out"
    source.write_text(json.dumps(condition) + "\n" + json.dumps(patient) + "\n")
    run = ["run", "--key", str(key), "--input", str(source), "--output", str(out)]
    assert command.main([*run, "--kind", "fhir"]) == 0
    assert "quix" not in out.read_text().lower()
    table, schema, rows = tmp_path / "t.csv", tmp_path / "s.json", tmp_path / "rows.csv"
    table.write_text("pid,hr\n1,72\n")
    schema.write_text('{"columns": {"pid": "subject", "hr": "value"}}')
    run = ["run", "--key", str(key), "--input", str(table), "--output", str(rows)]
    assert command.main([*run, "--kind", "row", "--schema", str(schema)]) == 0
    assert rows.read_text().endswith(",72\n")
    inspect = ["inspect", "--kind", "row", "--schema", str(schema), "--input", str(rows)]
    assert command.main(inspect) == 0

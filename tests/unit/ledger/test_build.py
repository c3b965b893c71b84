"""The committed artifacts are the sources, compiled by the pinned compiler."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ledger import build
from ledger.abi import CONTRACTS, load_artifact
from ledger.errors import BuildError


@pytest.mark.parametrize("name", CONTRACTS)
def test_artifacts_carry_the_hashes_of_the_sources(name: str) -> None:
    artifact = json.loads((build.ARTIFACTS / f"{name}.json").read_text(encoding="utf-8"))
    ours = build.own_sources()
    recorded = {unit: digest for unit, digest in artifact["sources"].items() if unit in ours}
    assert f"contracts/{name}.sol" in recorded
    for unit, digest in recorded.items():
        assert digest == hashlib.sha256(ours[unit].encode()).hexdigest(), f"{unit}: make gen"
    assert not [u for u in artifact["sources"] if u.startswith("contracts/") and u not in ours]
    assert artifact["sourceHash"] == build.source_hash(artifact["sources"])
    pinned = build.load_solc_settings()
    assert artifact["compiler"] == pinned["compiler"]
    assert artifact["settings"] == {key: pinned["settings"][key] for key in artifact["settings"]}


def test_a_changed_source_changes_the_hash() -> None:
    hashes = dict(load_artifact("ConsentLedger").sources)
    before = build.source_hash(hashes)
    hashes["contracts/ConsentLedger.sol"] = "0" * 64
    assert build.source_hash(hashes) != before


def test_artifacts_are_what_the_compiler_makes() -> None:
    packages, node = build.find_packages(), build.find_node()
    if packages is None or node is None:
        pytest.skip("solc and OpenZeppelin are absent; `npm ci` in contracts/ installs them")
    fresh = build.compile_contracts(packages, node)
    assert set(fresh) == set(CONTRACTS)
    for name, artifact in fresh.items():
        committed = (build.ARTIFACTS / f"{name}.json").read_text(encoding="utf-8")
        assert build.render(artifact) == committed, name


def test_another_compiler_is_refused(tmp_path: Path) -> None:
    for package in ("solc", "@openzeppelin/contracts"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "package.json").write_text('{"version": "0.0.1"}')
    with pytest.raises(BuildError, match=r"solc is 0\.0\.1"):
        build.compile_contracts(tmp_path, ["node"])


def test_an_import_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="imports @openzeppelin"):
        build.collect_sources(tmp_path)


def test_missing_packages_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_packages", lambda: None)
    with pytest.raises(BuildError, match="npm ci"):
        build.main([])

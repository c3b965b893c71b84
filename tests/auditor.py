"""An auditor with files and two commands: what a node told, and what the exchange handed out."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exchange.audit import MOST_LEAVES
from ledger.__main__ import main
from tests.audited import AUDITOR, Audited


class Auditor:
    """Runs ``python -m ledger trust`` and ``verify``; believes nothing else."""

    def __init__(self, house: Audited, folder: Path) -> None:
        self._house = house
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def command(self, *arguments: object) -> tuple[int, str]:
        """Run one command; its exit code and what it printed."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = main([str(one) for one in arguments])
        return code, printed.getvalue()

    def trust(self) -> Path:
        """What the node tells now; never behind what it told before."""
        path = self._folder / "trust.json"
        asked: list[object] = ["--rpc", self._house.rpc_url]
        asked += ["--deployment", self._house.settings.deployment_file, "--out", path]
        if path.exists():
            asked += ["--previous", path]
        code, _ = self.command("trust", *asked)
        assert code == 0
        return path

    def leaves(self) -> list[dict[str, Any]]:
        """Every leaf that the exchange shows, in its pages."""
        pages = [self._house.audit.leaves(AUDITOR, 0, MOST_LEAVES)]
        while pages[-1]["to"] < pages[-1]["size"]:
            start = pages[-1]["to"]
            pages.append(self._house.audit.leaves(AUDITOR, start, start + MOST_LEAVES))
        return pages

    def verdict(
        self,
        bundle: bytes,
        *,
        leaves: Sequence[dict[str, Any]] = (),
        receipts: Sequence[dict[str, Any]] = (),
    ) -> dict[str, Any]:
        """What ``verify --json`` says; its exit code agrees with it."""
        given: list[object] = [self._file("bundle.json", bundle), "--trust", self.trust(), "--json"]
        for number, page in enumerate(leaves):
            given += ["--leaves", self._file(f"leaves-{number}.json", _json(page))]
        if receipts:
            given += ["--receipt", self._file("receipts.json", _json(list(receipts)))]
        code, printed = self.command("verify", *given)
        verdict: dict[str, Any] = json.loads(printed)
        assert code == (0 if verdict["verified"] else 1)
        return verdict

    def _file(self, name: str, data: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(data)
        return path


def _json(value: object) -> bytes:
    return json.dumps(value).encode()

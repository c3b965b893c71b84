"""The scenario on real files: more hospitals, the same journeys and the same comparisons."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from exchange.demo.people import Wish, counts, deal
from exchange.demo.real import (
    CLEVELAND,
    FEATURES,
    HUNGARIAN,
    A,
    Cast,
    rows_of,
)
from exchange.demo.scenario import Scenario
from exchange.demo.stage import Differs, Say, listed
from exchange.demo.world import Hospital, World
from exchange.errors import SettingsError
from exchange.hospital.publishing import publish_file

_RECORDED_SECONDS = 600.0
_INTAKE_SECONDS = 3600.0

#: Which file of which hospital is published, in which form, under which name.
_PUBLISHED = (
    (0, "fhir", "fhir", "Synthetic patients of hospital A"),
    (0, "documents", "fhir", "Clinical documents of hospital A"),
    (1, "fhir", "fhir", "Synthetic patients of hospital B"),
    (1, "notes", "notes", "Transcribed notes of hospital B"),
    (2, "table", "table", "Heart disease, Cleveland"),
    (3, "table", "table", "Heart disease, Budapest"),
    (4, "table", "table", "Heart disease, Switzerland"),
)


class RealScenario(Scenario):
    """Five hospitals; A's structured records are released, the heart tables are computed on."""

    def __init__(
        self, world: World, cast: Cast, *, say: Say, began: float, torch: Callable[[], None]
    ) -> None:
        super().__init__(world, [], say=say, began=began, torch=torch)
        self.cast = cast
        self.main = "fhir"
        self.table_group = CLEVELAND
        self.encrypting_group = CLEVELAND
        self.features = FEATURES
        self.measured = "trestbps"
        if "fhir" not in cast.files[0] or "table" not in cast.files[CLEVELAND]:
            raise SettingsError(
                "the folder holds neither Synthea bundles nor the Cleveland table",
                next_step="run `make demo` without DATA, or name a folder that has both",
            )

    def enrol(self) -> None:
        """Every hospital invites, every patient signs; the first grant is timed."""
        self.wishes = [
            deal(hospital.enrol(records)) if records else []
            for hospital, records in zip(self.world.hospitals, self.cast.records, strict=True)
        ]
        first = next(wish for wish in self.wishes[0] if wish.kind == "purpose")
        self.sign([first])
        self.crowd.await_recorded([first], seconds=_RECORDED_SECONDS)
        self.report["seconds_to_first_grant"] = round(time.time() - self.began, 2)
        everybody = [wish for group in self.wishes for wish in group]
        rest = [wish for wish in everybody if wish is not first]
        for start in range(0, len(rest), 500):
            self.sign(rest[start : start + 500])
            self.say(f"  {min(start + 500, len(rest))} of {len(rest)} patients have signed")
        self.crowd.await_recorded(everybody, seconds=_RECORDED_SECONDS)
        self.report["patients"] = len(everybody)
        self.report["wishes"] = counts(everybody)

    def publish(self) -> None:
        """Each hospital publishes what it has."""
        for index, name, form, title in _PUBLISHED:
            hospital = self.world.hospitals[index]
            source = hospital.files.get(name)
            if source is None:
                continue
            began = time.monotonic()
            done = publish_file(
                hospital.home,
                source,
                form=form,
                title=title,
                description="Read from the folder that the demonstration was given.",
                wait_seconds=_INTAKE_SECONDS,
                progress=lambda _step, _done, _total: None,
            )
            if done["status"] != "published":
                raise Differs(f"{title} was {done['status']}: {done['quality']['refused']}")
            key = {(0, "fhir"): "fhir", (2, "table"): "table"}.get((index, name), f"{index}-{name}")
            self.datasets[key] = done["dataset"]
            aside = Counter(str(one["reason"]) for one in done["setAside"])
            self.say(
                f"  {title}: {done['records']} records of {done['subjects']} subjects, "
                f"set aside {listed(aside) or 'none'}, in {time.monotonic() - began:.0f} s"
            )

    def holding(self) -> list[Wish]:
        """Those in the bundles; A's other patients are in another dataset."""
        return [wish for wish in self.wishes[A] if wish.entry.record in self.cast.structured]

    def covered(self, requester: Hospital, purpose: str, group: int = 0) -> set[str]:
        """Of A, those in the released dataset."""
        found = super().covered(requester, purpose, group)
        return found & {wish.subject.hex for wish in self.holding()} if group == A else found

    def values(self) -> dict[str, tuple[float, ...]]:
        """The heart rows by subject."""
        return {
            wish.subject.hex: self.cast.rows[wish.entry.record]
            for group in self.wishes
            for wish in group
            if wish.entry.record in self.cast.rows
        }

    def training(self, *, seed: int) -> tuple[Any, Any]:
        """The rows of another hospital, which its own people train on, in an order by ``seed``."""
        rows, labels = rows_of(self.cast, HUNGARIAN)
        order = np.random.default_rng(seed).permutation(len(rows))
        return np.array(rows)[order], np.array(labels)[order]

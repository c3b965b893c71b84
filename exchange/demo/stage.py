"""What the journeys of the demonstration share: who wished what, and what must therefore hold."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from compute.models import ModelFile
from exchange.demo.patients import FEATURES, Person, training_set
from exchange.demo.people import Crowd, Wish
from exchange.demo.world import Hospital, World
from exchange.errors import ExchangeError

Say = Callable[[str], None]
EXPIRE_SECONDS = 12


class Differs(ExchangeError):
    """What the exchange did is not what the patients' wishes say."""


class Stage:
    """The hospitals, their patients' wishes, and the report that the journeys fill."""

    def __init__(
        self,
        world: World,
        people: list[list[Person]],
        *,
        say: Say,
        began: float,
        torch: Callable[[], None] = lambda: None,
    ) -> None:
        self.world = world
        self.people = people
        self.say = say
        self.began = began
        self.torch = torch
        self.main = "notes"
        self.table_group = 0
        self.encrypting_group = 1
        self.features: tuple[str, ...] = FEATURES
        self.measured = "systolic"
        self.report: dict[str, Any] = {"seconds": {}}
        self.wishes: list[list[Wish]] = []
        self.datasets: dict[str, str] = {}
        self._crowd: Crowd | None = None
        self.models: dict[str, ModelFile] = {}
        self.releases: list[str] = []

    @property
    def crowd(self) -> Crowd:
        """All patients; made when the exchange runs, since its address is known then."""
        if self._crowd is None:
            self._crowd = Crowd(self.world.url)
        return self._crowd

    @property
    def publisher(self) -> Hospital:
        """Hospital A: publishes the records of the main release."""
        return self.world.hospitals[0]

    @property
    def encrypting(self) -> Hospital:
        """The hospital that encrypts its own patients' rows."""
        return self.world.hospitals[self.encrypting_group]

    @property
    def requester(self) -> Hospital:
        """Hospital B."""
        return self.world.hospitals[1]

    def sign(self, wishes: Sequence[Wish]) -> None:
        """These patients redeem their codes and sign what they wish."""
        self.crowd.enrol_and_sign(
            wishes,
            partner=self.requester.org,
            expire_seconds=EXPIRE_SECONDS,
            done=lambda _count: None,
        )

    def expire(self) -> None:
        """Wait until the consents that end soon have ended."""
        ends = [wish.ends for group in self.wishes for wish in group if wish.ends is not None]
        left = max(ends, default=0) - time.time()
        if left > -1:
            time.sleep(left + 1)

    def holding(self) -> list[Wish]:
        """The patients of hospital A whose records are in the dataset of the main release."""
        return self.wishes[0]

    def covered(self, requester: Hospital, purpose: str, group: int = 0) -> set[str]:
        """The subjects of one hospital who agreed, by what they wished and by nothing else."""
        now = time.time()
        return {
            wish.subject.hex
            for wish in self.wishes[group]
            if wish.allows(requester.org, self.requester.org, purpose, now)
        }

    def values(self) -> dict[str, tuple[float, ...]]:
        """Each subject's row as their hospital has it, by subject; the features in order."""
        return {
            wish.subject.hex: person.values
            for group, people in zip(self.wishes, self.people, strict=True)
            for wish, person in zip(group, people, strict=True)
        }

    def training(self, *, seed: int) -> tuple[Any, Any]:
        """Rows [n, features] and labels [n] of people who are in no dataset."""
        rows, labels = training_set(400, seed=seed)
        return np.array(rows), np.array(labels)

    def withheld(self, release: str) -> dict[str, int]:
        """Reasons by count, as the publishing hospital may see them."""
        reasons: dict[str, int] = self.publisher.http.get(f"/v1/requests/{release}/withheld")[
            "reasons"
        ]
        return reasons

    @contextmanager
    def timed(self, what: str, name: str) -> Iterator[None]:
        """Say ``what`` and note under ``name`` how long it took (s)."""
        self.say(f"{what} …")
        began = time.perf_counter()
        yield
        self.report["seconds"][name] = round(time.perf_counter() - began, 2)


def whole(row: tuple[float, ...] | None) -> bool:
    """Whether a row is known and no cell of it is missing."""
    return row is not None and not any(math.isnan(value) for value in row)


def listed(items: dict[str, int] | Counter[str]) -> str:
    """Counts in words."""
    return ", ".join(f"{count} {name}" for name, count in sorted(items.items()))

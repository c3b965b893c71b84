"""What each patient of the demonstration is told to sign, and what must follow from it.

The expectation is worked out here, from the wishes alone: the scenario compares it with what the exchange
released, so that a gate that lets too much or too little through is seen.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx2

from exchange.hospital.subjects import Enrolled
from exchange.patient.client import Patient
from ledger.ids import ConsentId, OrgId, SubjectId

RESEARCH = "HRESCH"
TREATMENT = "TREAT"
_TIMEOUT_SECONDS = 60.0

#: Wishes in the order in which they are dealt out, and how often of every twenty patients.
_DEALT = (
    ("purpose", 8),
    ("requester", 5),
    ("treatment", 2),
    ("none", 3),
    ("object", 1),
    ("expire", 1),
)


@dataclass
class Wish:
    """One patient: who, with which seed, what they sign, and the consents that came of it."""

    entry: Enrolled
    kind: str
    seed: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    consents: list[ConsentId] = field(default_factory=list)
    ends: int | None = None
    client: Patient | None = None

    @property
    def subject(self) -> SubjectId:
        """The person in the data."""
        return self.entry.subject

    def allows(self, requester: OrgId, partner: OrgId, purpose: str, at: float) -> bool:
        """Whether this patient's own wishes cover a request, by plain reading."""
        if self.kind in ("none", "object", "withdrawn"):
            return False
        if self.kind == "treatment":
            return purpose == TREATMENT
        if purpose != RESEARCH:
            return False
        if self.kind == "requester":
            return requester == partner
        if self.kind == "expire":
            return self.ends is not None and at < self.ends
        return self.kind == "purpose"


def deal(entries: Sequence[Enrolled]) -> list[Wish]:
    """Give every patient a wish, in fixed proportions, mixed so that small cohorts have all kinds."""
    deck = [kind for kind, times in _DEALT for _ in range(times)]
    order = [(7 * index) % len(deck) for index in range(len(deck))]
    return [Wish(entry, deck[order[index % len(deck)]]) for index, entry in enumerate(entries)]


def counts(wishes: Sequence[Wish]) -> dict[str, int]:
    """How many patients signed what."""
    return dict(sorted(Counter(wish.kind for wish in wishes).items()))


class Crowd:
    """All patients, acting side by side as people do."""

    def __init__(self, url: str, *, threads: int = 4) -> None:
        self._url = url
        # One pool of connections for everybody: thousands of own ones would each hold a TLS context.
        self._http = httpx2.Client(base_url=url, timeout=_TIMEOUT_SECONDS, trust_env=False)
        self._threads = threads
        self._deployment: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def client(self, wish: Wish) -> Patient:
        """The patient's own connection."""
        with self._lock:
            if wish.client is None:
                wish.client = Patient(self._url, wish.seed, wish.subject, http=self._http)
                if self._deployment is None:
                    self._deployment = wish.client.deployment()
                wish.client.trust(self._deployment)
            return wish.client

    def enrol_and_sign(
        self,
        wishes: Sequence[Wish],
        *,
        partner: OrgId,
        expire_seconds: int,
        done: Callable[[int], None],
    ) -> None:
        """Each patient redeems the code of their letter and signs what they wish."""
        finished = 0
        guard = threading.Lock()

        def act(wish: Wish) -> None:
            nonlocal finished
            patient = self.client(wish)
            patient.enrol(wish.entry.printed_code)
            self._sign(patient, wish, partner, expire_seconds)
            with guard:
                finished += 1
                done(finished)

        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(act, wishes))

    def _sign(self, patient: Patient, wish: Wish, partner: OrgId, expire_seconds: int) -> None:
        match wish.kind:
            case "purpose":
                self._keep(wish, patient.grant(purposes=[RESEARCH]))
            case "requester":
                self._keep(wish, patient.grant(purposes=[RESEARCH], requesters=[partner]))
            case "treatment":
                self._keep(wish, patient.grant(purposes=[TREATMENT]))
            case "expire":
                wish.ends = int(time.time()) + expire_seconds
                self._keep(wish, patient.grant(purposes=[RESEARCH], ends=wish.ends))
            case "object":
                self._keep(wish, patient.grant(purposes=[RESEARCH]))
                self._keep(wish, patient.object())

    @staticmethod
    def _keep(wish: Wish, answer: dict[str, Any]) -> None:
        wish.consents.append(ConsentId.parse(answer["consent"]))

    def await_recorded(self, wishes: Sequence[Wish], *, seconds: float) -> None:
        """Return once the chain has recorded every consent of these patients.

        Raises:
            TimeoutError: it does not.
        """
        end = time.monotonic() + seconds
        waiting = [wish for wish in wishes if wish.consents]
        while waiting:
            wish = waiting[-1]
            if all(item["recorded"] for item in self.client(wish).consents()):
                waiting.pop()
            elif time.monotonic() > end:
                raise TimeoutError(f"{len(waiting)} patients' consents are not recorded yet")
            else:
                time.sleep(0.05)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

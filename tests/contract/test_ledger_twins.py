"""One behaviour over the memory ledger and over the contracts on a chain."""

from __future__ import annotations

import random
import warnings

import pytest

from ledger.chain import ChainLedger
from ledger.errors import InsecureLedgerWarning
from ledger.interface import ConsentLedger
from ledger.memory import MemoryLedger
from ledger.signing import Domain
from tests.contract.behaviour import FOUNDERS, LedgerBehaviour
from tests.ledgers import LOG, Deployed, Signed


def a_memory_ledger(domain: Domain) -> MemoryLedger:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureLedgerWarning)
        founders = [key.address for key in FOUNDERS]
        return MemoryLedger(domain.deployment_id, founders, LOG.address)


class TestMemory(LedgerBehaviour):
    @pytest.fixture
    def domain(self) -> Domain:
        return Domain(b"m" * 32)

    @pytest.fixture
    def ledger(self, domain: Domain) -> ConsentLedger:
        return a_memory_ledger(domain)


class TestChain(LedgerBehaviour):
    @pytest.fixture
    def domain(self, deployed: Deployed) -> Domain:
        return deployed.domain

    @pytest.fixture
    def ledger(self, deployed: Deployed) -> ConsentLedger:
        return deployed.ledger


@pytest.mark.parametrize("seed", range(3))
def test_both_agree_on_any_history(deployed: Deployed, seed: int) -> None:
    """The same random submissions leave the same state and report the same rejections."""
    chance = random.Random(seed)
    chain: ChainLedger = deployed.ledger
    memory = a_memory_ledger(deployed.domain)
    consents = [Signed(deployed.domain, until_day=chance.randrange(2**32)) for _ in range(8)]
    for _ in range(6):
        chosen = chance.choices(consents, k=chance.randrange(1, 6))
        if chance.random() < 0.6:
            items = [consent.grant for consent in chosen]
            assert chain.grant(items).rejected == memory.grant(items).rejected
        else:
            ends = [consent.withdrawal for consent in chosen]
            assert chain.withdraw(ends).rejected == memory.withdraw(ends).rejected
    for consent in consents:
        assert chain.status_of(consent.id) == memory.status_of(consent.id)
        for day in (0, consent.until_day, min(consent.until_day + 1, 2**32 - 1)):
            assert chain.in_force(consent.id, day) == memory.in_force(consent.id, day)

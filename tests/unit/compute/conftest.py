"""Generated patients, models over them, and one encrypted request of each kind."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from compute import canonical as cj
from compute import train
from compute.client.encryption import encrypt, make_keys
from compute.context import KeyHolder
from compute.models import Array, ModelFile
from compute.presets import LINEAR, SQUARE
from compute.wire import Request
from ledger.policy import Permit

AT = datetime(2026, 6, 1, tzinfo=UTC)
COLUMNS = ("age", "pressure", "glucose", "creatinine", "stays")


@dataclass
class Patients:
    rows: Array
    labels: Array
    slots: list[tuple[str, str]]

    @property
    def subjects(self) -> list[str]:
        return [subject for subject, _ in self.slots]


@pytest.fixture(scope="session")
def patients() -> Patients:
    chance = np.random.default_rng(7)
    rows = np.column_stack(
        [
            chance.normal(60, 15, 120),
            chance.normal(130, 20, 120),
            chance.lognormal(1.7, 0.3, 120),
            chance.lognormal(-0.1, 0.3, 120),
            chance.poisson(2, 120).astype(float),
        ]
    )
    hazard = (rows[:, 0] - 60) / 15 + (rows[:, 2] - 6) / 2 + chance.normal(0, 0.5, 120)
    slots = [(f"0x{index:064x}", f"0x{index + 1000:064x}") for index in range(120)]
    return Patients(rows, (hazard > 0).astype(float), slots)


@pytest.fixture(scope="session")
def logistic(patients: Patients) -> ModelFile:
    return train.fit_logistic_regression(patients.rows, patients.labels, features=COLUMNS)


@pytest.fixture(scope="session")
def square(patients: Patients) -> ModelFile:
    return train.fit_mlp(
        patients.rows, patients.labels, features=COLUMNS, outputs=("low", "high"), hidden=6
    )


@pytest.fixture(scope="session")
def linear_key() -> KeyHolder:
    return make_keys(LINEAR)


@pytest.fixture(scope="session")
def square_key() -> KeyHolder:
    return make_keys(SQUARE)


def a_request(key: KeyHolder, file: ModelFile, patients: Patients, **changes: Any) -> Request:
    given: dict[str, Any] = {
        "org": "0x" + "11" * 8,
        "columns": COLUMNS,
        "model_digest": cj.to_hex(file.card.digest),
        "calibration": file.card.calibration,
    }
    return encrypt(key, patients.rows, patients.slots, **(given | changes))


@pytest.fixture(scope="session")
def make_request() -> Any:
    return a_request


@pytest.fixture(scope="session")
def request_linear(linear_key: KeyHolder, logistic: ModelFile, patients: Patients) -> Request:
    return a_request(linear_key, logistic, patients)


@pytest.fixture(scope="session")
def permit() -> Permit:
    return Permit(because=(), expires=int(AT.timestamp()) + 60)

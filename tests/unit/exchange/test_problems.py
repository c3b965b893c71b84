"""Problems: every error has its row, and no body repeats what was sent."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import APIRouter

from exchange import logs
from exchange.api import problems
from exchange.errors import BodyMalformed, ConsentKeyMismatch, KeysRefused, NotEntitled, NotFound
from exchange.patient.client import Problem
from exchange.strict_json import parse
from ledger.errors import ChainUnreachable, IdMalformed, SignatureInvalid
from tests.served import Served

ROOTS = {
    "ledger.errors": "LedgerError",
    "anonymize.errors": "AnonymizeError",
    "compute.errors": "ComputeError",
    "exchange.errors": "ExchangeError",
}
CANARY = "Zebulon-Quackenbush-19"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(Path(tmp_path_factory.mktemp("served"))) as opened:
        router = APIRouter()

        @router.get("/v1/broken")
        def broken() -> None:
            raise RuntimeError(CANARY)

        @router.get("/v1/unreachable")
        def unreachable() -> None:
            raise ChainUnreachable(CANARY)

        opened.app.include_router(router)
        yield opened


def classes(kind):
    yield kind
    for child in kind.__subclasses__():
        yield from classes(child)


def unmapped(table):
    missing = []
    for module, root in ROOTS.items():
        package = module.partition(".")[0]
        for kind in classes(getattr(importlib.import_module(module), root)):
            if kind.__module__ == module and not kind.__name__.startswith("_"):
                name = f"{package}.{kind.__name__}"
                if name not in table:
                    missing.append(name)
    return missing


def test_every_error_of_the_four_trees_has_a_row():
    assert unmapped(problems.TABLE) == []


def test_a_missing_row_is_noticed():
    short = {name: row for name, row in problems.TABLE.items() if name != "exchange.KeyShredded"}
    assert unmapped(short) == ["exchange.KeyShredded"]


def test_every_row_has_a_next_step_and_a_kebab_slug():
    for name, row in problems.TABLE.items():
        assert row.next_step, name
        assert row.slug == row.slug.lower().replace("_", "-"), name
        assert 400 <= row.status < 600, name


def test_a_class_without_a_row_is_answered_by_its_ancestor():
    made = type("Newer", (SignatureInvalid,), {"__module__": "ledger.errors"})
    assert problems.row_of(made).slug == "signature-invalid"
    assert problems.row_of(KeyError).slug == "internal"


def test_who_may_not_is_told_the_same_as_for_nothing():
    mine = json.loads(bytes(problems.of(NotEntitled("role subject may not")).body))
    nothing = json.loads(bytes(problems.of(NotFound("no such release 0xabc")).body))
    assert mine == nothing


def test_a_problem_names_place_reasons_and_next_step():
    body = json.loads(bytes(problems.of(ConsentKeyMismatch("x", pointer="/grantSignature")).body))
    assert body["errors"] == [{"pointer": "/grantSignature", "detail": "x"}]
    refused = json.loads(bytes(problems.of(KeysRefused(("withdrawn",))).body))
    assert (refused["status"], refused["reasons"]) == (403, ["withdrawn"])
    assert "aaaa" not in bytes(problems.of(IdMalformed("OrgId", "aaaaaaaa")).body).decode()


def test_what_nobody_foresaw_is_a_500_that_says_nothing(served, caplog):
    caplog.set_level(logging.INFO)
    answer = served.http.get("/v1/broken")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
    assert CANARY not in answer.text
    shown = [logs.JsonFormatter().format(record) for record in caplog.records]
    assert any("RuntimeError" in line for line in shown)
    assert not any(CANARY in line for line in shown)


def test_a_transient_error_says_when_to_come_back(served):
    answer = served.http.get("/v1/unreachable")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert CANARY not in answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/challenges", {"subject": CANARY}),
        ("/v1/challenges", {"subject": "0x" + "00" * 32, CANARY: 1}),
        ("/v1/challenges", [CANARY]),
        ("/v1/challenges", CANARY),
        ("/v1/sessions", {"subject": {CANARY: [CANARY]}, "challenge": CANARY}),
        ("/v1/enrolments", {"subject": CANARY, "identityKey": 7, "redeemed": None}),
        ("/v1/invitations/" + CANARY, None),
        ("/v1/" + CANARY, None),
        ("/v1/problem/" + CANARY, None),
        ("/problems/" + CANARY, None),
    ],
)
def test_no_error_repeats_what_was_sent(served, caplog, path, body):
    caplog.set_level(logging.DEBUG)
    method = "GET" if body is None else "POST"
    answer = served.http.request(method, path, json=body)
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert CANARY not in answer.text
    assert answer.json()["next"]
    shown = [logs.JsonFormatter().format(record) for record in caplog.records]
    assert not any(CANARY in line for line in shown)


def test_the_patients_consent_repeats_nothing_either(served, caplog):
    caplog.set_level(logging.DEBUG)
    patient = served.patient()
    good = patient.sign(patient.document("permit")).submission
    document = good["document"]
    for submission in (
        good | {"document": document | {CANARY: CANARY}},
        good | {"document": document | {"purpose": [CANARY]}},
        good | {"document": document | {"locale": CANARY + "!"}},
        good | {"document": document | {"supersedes": CANARY}},
        good | {"terms": good["terms"] | {"purpose": CANARY}},
        good | {"terms": good["terms"] | {CANARY: 1}},
    ):
        with pytest.raises(Problem) as refused:
            patient._create("/v1/consents", submission)
        assert CANARY not in json.dumps(refused.value.document)
        batch = patient._create("/v1/consents/batch", {"consents": [submission]})
        assert CANARY not in json.dumps(batch)
        assert batch["results"][0]["type"] == refused.value.document["type"]
    shown = [logs.JsonFormatter().format(record) for record in caplog.records]
    assert not any(CANARY in line for line in shown)


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (b'{"a":1,"a":2}', 7),
        (b'{"x":[{"b":1},{"b":2,"c":{"b":0,"b":1}}]}', 32),
        (b"[NaN]", 1),
        (b"[-Infinity]", 1),
        (b"[1e999]", 1),
        (b"[" * 70 + b"]" * 70, 64),
        (b'{"a":"\\ud800"}', 5),
        (b'["\xed\xa0\x80"]', 2),
        (b'{"a":1}x', 7),
        (b"[" + b"9" * 50 + b"]", 1),
        (b'["', 1),
        (b"", 0),
    ],
)
def test_only_strict_json_is_read_and_the_position_is_told(body, offset):
    with pytest.raises(BodyMalformed) as refused:
        parse(body)
    assert refused.value.offset == offset


def test_strict_json_reads_what_is_right():
    value = {"a": [1, 2.5, None, True, 'é😀"\\'], "b": {"a": {"a": 1}}}
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value
    assert parse(b"[" * 64 + b"]" * 64) is not None


def test_the_door_reads_strictly(served):
    answer = served.http.post(
        "/v1/challenges",
        content=b'{"subject":"0x00","subject":"0x01"}',
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/body-malformed")
    assert "at character 18" in answer.json()["detail"]


def test_a_problem_type_can_be_looked_up(served):
    found = served.http.get("/problems/consent-key-mismatch").json()
    assert found["status"] == 422
    assert served.http.get("/problems/nix").status_code == 404


def test_the_description_of_the_api_names_problems(served):
    found = served.http.get("/v1/openapi.json").json()
    operations = [operation for path in found["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert all("default" in operation["responses"] for operation in operations)

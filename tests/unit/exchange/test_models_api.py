"""The model registry and path-shaped ids, through the HTTP door: a problem with its type, place and next step."""

from __future__ import annotations

import base64
import io
import json
import pickle
import sys
import zipfile

import numpy as np
import pytest

from compute.models import Layer, ModelCard, pack_weights
from exchange.documents import MODEL_KIND
from exchange.store import schema
from exchange.vault import model_path
from ledger.commitment import sha256
from ledger.ids import ModelDigest
from ledger.signing import Key, sign_document, to_hex
from tests.served import Served

LAYER = Layer(np.array([[0.5, -0.25]]), np.array([0.1]))
SAFETENSORS = pack_weights((LAYER,))
JSON = json.dumps({"layers": [{"weight": [[0.5, -0.25]], "bias": [0.1]}]}).encode()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("models")) as opened:
        yield opened


def card(weights, **changes):
    made = ModelCard("Risk", "1", "logistic-regression", ("a", "b"), ("risk",), sha256(weights))
    return made.to_value() | changes


def register(served, weights, *, key=None, body=None, **changes):
    document = {
        "kind": MODEL_KIND,
        "org": served.north.org.hex,
        "card": card(weights),
        "digest": to_hex(sha256(weights)),
    } | changes
    signature = sign_document(key or served.north.key, MODEL_KIND, document, served.domain)
    given = {
        "model": document,
        "weights": base64.b64encode(weights).decode(),
        "signature": to_hex(signature),
    } | (body or {})
    return served.http.post("/v1/models", json=given, headers=served.headers(served.north))


def is_kept(served, weights):
    digest = ModelDigest(sha256(weights))
    path = served.settings.data_dir.rglob(model_path(digest).rsplit("/", 1)[-1])
    known = {row["digest"] for row in served.rows(schema.models)}
    return digest.hex in known, bool(list(path))


@pytest.mark.parametrize("weights", [SAFETENSORS, JSON], ids=["safetensors", "json"])
def test_numbers_are_taken_and_named_by_their_digest(served, weights):
    answer = register(served, weights)
    assert answer.status_code == 201, answer.text
    model = answer.json()["model"]
    assert model == to_hex(sha256(weights))
    assert register(served, weights).json()["model"] == model
    headers = served.headers(served.south)
    told = served.http.get(f"/v1/models/{model}", headers=headers).json()
    assert (told["org"], told["card"]["name"]) == (served.north.org.hex, "Risk")
    listed = served.http.get("/v1/models", headers=headers).json()["items"]
    assert [one["model"] for one in listed].count(model) == 1
    assert is_kept(served, weights) == (True, True)


class Evil:
    def __reduce__(self):
        return (sys.exit, (7,))


def zipped():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("data.pkl", b"\x80\x02.")
    return held.getvalue()


def array():
    held = io.BytesIO()
    np.save(held, np.zeros(3))
    return held.getvalue()


REFUSED = {
    **{f"pickle {p}": pickle.dumps(Evil(), protocol=p) for p in range(6)},
    "pickled list": pickle.dumps([1, 2], protocol=0),
    "zip": zipped(),
    "npy": array(),
    "gzip": b"\x1f\x8b" + bytes(20),
    "hdf5": b"\x89HDF\r\n\x1a\n",
    "elf": b"\x7fELF" + bytes(20),
    "script": b"#!/bin/sh\n",
    "nothing": b"",
    "space": b"  " + JSON,
    "long header": (2**32 - 1).to_bytes(8, "little") + b"{}",
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_that_could_bring_code_is_refused_unread(served, name):
    weights = REFUSED[name]
    answer = register(served, weights)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "/problems/model-refused")
    assert problem["next"]
    if name.startswith("pickle "):
        assert "pickle" in problem["detail"]
    assert is_kept(served, weights) == (False, False)


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"org": "0x" + "11" * 8}, "document-malformed"),
        ({"digest": "0x" + "11" * 32}, "document-malformed"),
        ({"digest": "../../etc/passwd"}, "document-malformed"),
        ({"card": []}, "document-malformed"),
        ({"card": card(b"other")}, "document-malformed"),
        ({"card": card(JSON[:-1] + b" }", architecture="transformer")}, "model-refused"),
        ({"card": card(JSON[:-1] + b" }", features=["a", "a"])}, "model-refused"),
        ({"card": card(JSON[:-1] + b" }", more=1)}, "model-refused"),
        ({"more": 1}, "document-malformed"),
    ],
)
def test_a_card_that_does_not_hold_together_is_refused(served, changes, slug):
    weights = JSON[:-1] + b" }"
    answer = register(served, weights, **changes)
    assert (answer.status_code, answer.json()["type"]) == (422, f"/problems/{slug}")
    assert is_kept(served, weights) == (False, False)


def test_only_the_hospital_signs_its_models(served):
    weights = JSON[:-1] + b"  }"
    for key in (Key.new(), served.south.key):
        assert register(served, weights, key=key).status_code == 422
    assert register(served, weights, body={"weights": "%%%"}).status_code == 422
    assert is_kept(served, weights) == (False, False)
    assert register(served, weights).status_code == 201


SHAPES = ["..%2f..%2fetc%2fpasswd", "....//x", "%00", "0x", "0x" + "g" * 32, "0x" + "A" * 32]
PLACES = [
    ("GET", "/v1/datasets/{}"),
    ("GET", "/v1/datasets/{}/versions/1"),
    ("POST", "/v1/datasets/{}/versions"),
    ("PUT", "/v1/datasets/{}/versions/1/content"),
    ("PUT", "/v1/datasets/{}/versions/1/keys"),
    ("GET", "/v1/requests/{}"),
    ("GET", "/v1/requests/{}/withheld"),
    ("GET", "/v1/jobs/{}"),
    ("GET", "/v1/jobs/{}/result"),
    ("GET", "/v1/jobs/{}/events"),
    ("PUT", "/v1/jobs/{}/input"),
    ("GET", "/v1/models/{}"),
    ("GET", "/v1/releases/{}/content"),
]


@pytest.fixture(scope="module")
def token(served):
    return {"Authorization": f"Bearer {served.token(served.north)}"}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_id_that_is_a_path_is_none(served, token, shape):
    for number, (method, place) in enumerate(PLACES):
        headers = token | {"Idempotency-Key": f"shape-{shape[:4]}-{number}-key"}
        if method == "PUT":
            headers["Content-Type"] = "application/octet-stream"
        answer = served.http.request(method, place.format(shape), headers=headers, content=None)
        assert answer.status_code in {400, 404, 405, 422}, (place, answer.status_code)
        assert answer.headers["content-type"] == "application/problem+json", place
        assert "passwd" not in answer.text


@pytest.mark.parametrize("version", ["0", "-1", "1e3", "99999999999999999999", "..", "%2e%2e"])
def test_a_version_is_a_small_whole_number(served, token, version):
    path = f"/v1/datasets/0x{'11' * 16}/versions/{version}"
    assert served.http.get(path, headers=token).status_code in {400, 404}


def test_an_id_of_nothing_is_not_found(served, token):
    for method, place in PLACES:
        if method == "GET":
            digits = 64 if "models" in place else 32
            answer = served.http.get(place.format("0x" + "1" * digits), headers=token)
            assert answer.status_code == 404, place
            assert answer.json()["type"] == "/problems/not-found"


def test_a_gigabyte_for_content_or_input_is_refused_by_its_length(served, token):
    for place in ("/v1/datasets/{}/versions/1/content", "/v1/jobs/{}/input"):
        answer = served.http.put(
            place.format("0x" + "1" * 32),
            content=b"x",
            headers=token
            | {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(served.settings.api.max_content + 1),
            },
        )
        assert answer.status_code == 413


def test_octets_are_called_octets(served, token):
    path = f"/v1/jobs/0x{'1' * 32}/input"
    answer = served.http.put(path, content=b"{}", headers=token | {"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert answer.json()["next"]

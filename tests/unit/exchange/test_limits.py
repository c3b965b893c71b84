"""What every request passes: sizes, hosts, headers, paths, pages; and that each guard can refuse."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from exchange.api.door import CONTENT_SECURITY_POLICY
from exchange.api.events import Streams
from exchange.app import create_app
from exchange.errors import RateLimited, SettingsError
from exchange.settings import load_settings
from tests.served import BASE, Served

JSON = {"Content-Type": "application/json"}
GIGABYTE = 1 << 30


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = Path(tmp_path_factory.mktemp("served"))
    with Served(folder, ASSENT_API__MAX_BODY="65536", ASSENT_API__MAX_CONTENT="131072") as opened:
        yield opened


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    (folder / "vendor").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Assent</title>")
    (folder / "vendor" / "a.js").write_text("export default 1;")
    (tmp_path / "secret.txt").write_text("not a page")
    return folder


def test_a_body_of_a_gigabyte_is_refused_by_its_length_alone(served):
    answer = served.http.post(
        "/v1/challenges", content=b"{}", headers=JSON | {"Content-Length": str(GIGABYTE)}
    )
    body = answer.json()
    assert (answer.status_code, body["type"]) == (413, "/problems/body-too-large")
    assert "65536" in body["detail"]
    assert body["next"]


def test_a_body_without_a_length_is_refused_once_it_is_too_long(served):
    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b" " * 1024

    answer = served.http.post("/v1/challenges", content=endless(), headers=JSON)
    assert answer.status_code == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "٣", "9" * 40])
def test_a_length_that_is_none_is_refused(served, length):
    headers = {b"Content-Type": b"application/json", b"Content-Length": length.encode()}
    answer = served.http.post("/v1/challenges", content=b"{}", headers=headers)
    assert answer.status_code == 400


def test_calling_json_octets_does_not_raise_its_limit(served):
    answer = served.http.post(
        "/v1/challenges",
        content=b"x" * 70_000,
        headers={"Content-Type": "application/octet-stream"},
    )
    assert answer.status_code == 413


def test_streamed_content_has_a_limit_of_its_own(served):
    octets = {"Content-Type": "application/octet-stream"}
    path = f"/v1/datasets/0x{'00' * 16}/versions/1/content"
    said = served.http.put(path, content=b"x", headers=octets | {"Content-Length": str(GIGABYTE)})
    assert said.status_code == 413
    assert served.http.put(path, content=b"x" * 70_000, headers=octets).status_code == 401


def test_a_request_for_another_host_is_refused(served):
    answer = served.http.get("/livez", headers={"Host": "elsewhere.example"})
    assert answer.status_code == 400
    assert "elsewhere" not in answer.text
    for host in ("127.0.0.1:9999", "localhost", "[::1]:8420"):
        assert served.http.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/v1/me", "/v1/nothing", "/v1/deployment"])
def test_every_answer_carries_the_strict_headers(served, path):
    headers = served.http.get(path).headers
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers
    assert "strict-transport-security" not in headers


def test_a_request_id_is_echoed_where_it_is_one_and_stands_in_the_problem(served):
    given = served.http.get("/v1/nothing", headers={"X-Request-Id": "abcdef-12345"})
    assert given.headers["x-request-id"] == given.json()["trace_id"] == "abcdef-12345"
    odd = served.http.get("/v1/nothing", headers={"X-Request-Id": "<script>alert(1)"})
    assert odd.headers["x-request-id"] == odd.json()["trace_id"]
    assert "script" not in odd.headers["x-request-id"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/consents/..%2f..%2fetc%2fpasswd",
        "/v1/consents/....//etc/passwd",
        "/v1/consents/%00",
        "/v1/invitations/..%2f..%2f",
        "/v1/releases/..%2f..%2fx/content",
        "/v1/receipts/..%2f1",
    ],
)
def test_a_path_shaped_id_is_refused(served, path):
    patient = served.patient()
    headers = {"Authorization": patient._headers()["Authorization"]}
    answer = served.http.get(path, headers=headers)
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "etc" not in answer.text


def test_pages_are_served_strictly_and_nothing_beside_them(served, pages):
    client = TestClient(create_app(served.exchange, pages=pages), base_url=BASE)
    index = client.get("/")
    assert "Assent" in index.text
    assert index.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert index.headers["cache-control"] == "no-cache"
    assert client.get("/vendor/a.js").headers["content-type"].startswith("text/javascript")
    for path in (
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/vendor/..%2f..%2fsecret.txt",
        "/%2e%2e/secret.txt",
    ):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "not a page" not in answer.text
    assert client.get("/livez").json() == {"status": "ok"}
    assert client.get("/v1/nothing").json()["type"] == "/problems/not-found"


def test_health_tells_what_is_missing_and_metrics_count(served):
    assert served.http.get("/livez").json() == {"status": "ok"}
    ready = served.http.get("/readyz").json()
    assert (ready["store"], ready["keys"], ready["chain"]) == (True, True, False)
    assert ready["status"] == "degraded"
    served.stop_keys()
    try:
        assert served.http.get("/readyz").json()["keys"] is False
        assert served.http.get("/v1/deployment").json()["keysKey"] is None
    finally:
        served.start_keys()
    text = served.http.get("/metrics").text
    assert 'assent_http_requests_total{method="GET",route="/livez",status="200"}' in text
    assert "assent_log_tree_size" in text
    assert "0x" not in text


def test_the_store_that_is_gone_makes_it_unready(served, tmp_path):
    with Served(tmp_path / "gone") as other:
        other.exchange.store.close()
        answer = other.http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "down")


def test_the_deployment_tells_what_a_client_needs(served):
    found = served.http.get("/v1/deployment").json()
    assert found["deployment"] == "0x" + served.domain.deployment_id.hex()
    assert {org["name"] for org in found["orgs"]} == {"North", "South"}
    assert set(found["notice"]) >= {"en", "zh"}
    assert found["keysKey"]["signature"].startswith("0x")
    assert found["policy"] == "assent.policy/1"


def test_every_request_is_one_line_with_a_template_never_a_path(served, caplog):
    caplog.set_level(logging.INFO)
    patient = served.patient()
    caplog.clear()
    served.http.get(
        f"/v1/consents/0x{'ab' * 32}",
        headers={"Authorization": patient._headers()["Authorization"]},
    )
    lines = [one for one in caplog.records if one.name == "exchange.api.door"]
    assert lines[-1].path_template == "/v1/consents/{consent}"
    assert lines[-1].status == 404
    assert "abab" not in str(lines[-1].__dict__.get("path_template"))


def test_an_address_that_others_reach_needs_tls(tmp_path):
    base = {"ASSENT_DATA_DIR": str(tmp_path), "ASSENT_API__HOST": "192.0.2.7"}
    with pytest.raises(SettingsError, match="TLS"):
        load_settings(base)
    assert load_settings(base | {"ASSENT_API__TLS_TERMINATED": "true"}).api.tls_terminated
    assert load_settings({"ASSENT_DATA_DIR": str(tmp_path)}).api.host == "127.0.0.1"


def test_behind_tls_the_browser_is_told_to_stay(tmp_path):
    environ = {"ASSENT_API__TLS_TERMINATED": "true", "ASSENT_API__BASE_URL": "https://x.example"}
    with Served(tmp_path / "tls", **environ) as served:
        assert served.http.get("/livez").headers["strict-transport-security"]
        assert served.http.get("/livez", headers={"Host": "x.example"}).status_code == 200


def test_streams_are_few_and_their_slots_come_back():
    streams = Streams(most=1)
    streams.take()
    with pytest.raises(RateLimited):
        streams.take()
    streams.give_back()
    streams.take()

"""The shared parts are real: each answers, and the closed network is closed."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest
import sqlalchemy

from tests import conftest, loopback


def test_anvil_is_the_locked_version(anvil_path):
    said = subprocess.run([anvil_path, "--version"], capture_output=True, text=True, check=True)
    assert "1.7.1" in said.stdout


@pytest.mark.parametrize("round_", [1, 2])
def test_each_test_has_an_empty_database(postgres_url, round_):
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE mine (round int)"))
        connection.execute(sqlalchemy.text(f"INSERT INTO mine VALUES ({round_})"))
        rows = connection.execute(sqlalchemy.text("SELECT round FROM mine")).scalars().all()
    engine.dispose()
    assert rows == [round_]


def test_the_browser_runs_script(page):
    page.set_content("<title>yes</title><script>document.title += ' indeed'</script>")
    assert page.title() == "yes indeed"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", b"localhost", None])
def test_loopback_is_local(host):
    assert loopback.is_local_host(host)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "192.0.2.1", "2001:db8::1", "example.org", "169.254.0.1"]
)
def test_other_machines_are_not(host):
    assert not loopback.is_local_host(host)


def test_no_socket_leaves_the_machine():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        with pytest.raises(loopback.LeftTheMachine):
            stream.connect(("192.0.2.1", 80))
        with pytest.raises(loopback.LeftTheMachine):
            stream.connect_ex(("192.0.2.1", 80))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        pytest.raises(loopback.LeftTheMachine),
    ):
        datagram.sendto(b"hello", ("192.0.2.1", 9))
    with pytest.raises(loopback.LeftTheMachine):
        socket.getaddrinfo("example.org", 80)


def test_the_callers_settings_do_not_reach_the_tests():
    assert not [name for name in os.environ if name.startswith("ASSENT_")]


def test_an_absent_part_skips_or_fails_as_asked(monkeypatch):
    monkeypatch.setattr(conftest, "ASKED", {})
    assert isinstance(conftest.absent("it", "ASSENT_REQUIRE_IT"), pytest.skip.Exception)
    for switch in ("ASSENT_REQUIRE_IT", "ASSENT_REQUIRE_ALL"):
        monkeypatch.setattr(conftest, "ASKED", {switch: "1"})
        assert isinstance(conftest.absent("it", "ASSENT_REQUIRE_IT"), pytest.fail.Exception)

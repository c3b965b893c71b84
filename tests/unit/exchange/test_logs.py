from __future__ import annotations

import io
import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange import logs
from exchange.errors import Conflict
from exchange.logs import Redacted

CANARY = "Zebulon Canary"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.set_up("api", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def last(stream: io.StringIO) -> dict[str, object]:
    found = json.loads(stream.getvalue().splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_a_line_is_json_with_its_allowed_fields(lines: io.StringIO) -> None:
    logging.getLogger("exchange.gate").info(
        "release decided", extra={"release": "0x01", "permitted": 3, "reasons": ["withdrawn"]}
    )
    line = last(lines)
    assert line.pop("at")
    assert line == {
        "level": "info",
        "logger": "exchange.gate",
        "event": "release decided",
        "process": "api",
        "release": "0x01",
        "permitted": 3,
        "reasons": ["withdrawn"],
    }


def test_what_is_not_on_the_list_is_dropped(lines: io.StringIO) -> None:
    logging.getLogger("exchange.gate").info(
        "odd %s", CANARY, extra={"note": CANARY, "patient_name": CANARY, "count": 1}
    )
    assert CANARY not in lines.getvalue()
    assert last(lines)["event"] == "odd %s"
    assert last(lines)["count"] == 1


def test_an_allowed_name_carries_no_odd_value(lines: io.StringIO) -> None:
    logging.getLogger("exchange.gate").info(
        "odd", extra={"job": {"note": CANARY}, "count": Redacted(CANARY), "state": b"Zebulon"}
    )
    assert "Zebulon" not in lines.getvalue()
    assert last(lines)["job"] == "<dict>"
    assert last(lines)["state"] == "<bytes>"


def test_a_long_value_is_cut(lines: io.StringIO) -> None:
    logging.getLogger("exchange.gate").info("long", extra={"state": "x" * 1_000})
    assert len(str(last(lines)["state"])) == 201


def test_a_foreign_exception_shows_its_class_and_place_only(lines: io.StringIO) -> None:
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger("exchange.gate").exception("it broke")
    line = last(lines)
    assert CANARY not in lines.getvalue()
    assert line["error"] == "builtins.ValueError"
    assert str(line["places"]).count("test_logs.py") == 1
    assert "detail" not in line


def test_an_exception_of_our_own_shows_its_text(lines: io.StringIO) -> None:
    try:
        raise Conflict("version 3 is not the next one")
    except Conflict:
        logging.getLogger("exchange.gate").exception("it broke")
    assert last(lines)["detail"] == "version 3 is not the next one"


def test_another_librarys_message_is_not_repeated(lines: io.StringIO) -> None:
    composed = f"GET /v1/{CANARY} %s"
    logging.getLogger("uvicorn.error").error(composed, CANARY)
    assert CANARY not in lines.getvalue()
    assert str(last(lines)["event"]).startswith("test_logs:")


def test_the_canary_would_be_seen_without_the_formatter(lines: io.StringIO) -> None:
    handler = logging.getLogger().handlers[0]
    handler.setFormatter(logging.Formatter())
    logging.getLogger("exchange.gate").info("odd %s", CANARY)
    assert CANARY in lines.getvalue()


def test_setting_up_again_writes_each_line_once(lines: io.StringIO) -> None:
    stream = io.StringIO()
    logs.set_up("api", stream=stream)
    logging.getLogger("exchange.gate").info("once")
    assert len(stream.getvalue().splitlines()) == 1
    assert lines.getvalue() == ""


def test_redacted_shows_nothing_and_is_not_serialised() -> None:
    secret = Redacted(CANARY)
    assert f"{secret} {secret!r} {secret!s:>20}".count("Zebulon") == 0
    assert secret.reveal() == CANARY
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_what_nobody_catches_is_a_line_too() -> None:
    program = (
        "import sys; from exchange import logs; logs.set_up('api', stream=sys.stdout)\n"
        f"raise ValueError({CANARY!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["event"], found["error"]) == ("not caught", "builtins.ValueError")
    assert CANARY not in done.stdout + done.stderr

"""The parent's half of a child: what it believes, when it stops waiting, and what it never hands over."""

from __future__ import annotations

import io
import json
import struct
import textwrap
import time

import pytest

from exchange import sealing
from exchange.errors import JobCancelled, JobFailed, KeysUnavailable, SandboxLost
from exchange.worker import frames, sandbox
from exchange.worker.child import _records
from exchange.worker.sandbox import Feed, Limits, run_child
from ledger.ids import DatasetId, JobId, OrgId, SubjectId
from ledger.signing import Key, to_hex
from tests.worked import children

LIMITS = Limits(seconds=60, memory_bytes=1 << 30)
ORG = OrgId.of_address(Key.new().address)


class Task:
    """A query over some subjects, as the runner makes it."""

    def __init__(self, count=3):
        self.job, self.dataset = JobId.new(), DatasetId.new()
        self.private, self.public = sealing.new_receive_key()
        self.subjects = sorted(SubjectId.new(ORG) for _ in range(count))
        self.data_keys = {who: sealing.new_key() for who in self.subjects}
        self.asked = []
        self.progress = []

    def part(self, who, plain=b'{"id":"0","kind":"row","content":{"age":"70"}}\n', version=1):
        context = sealing.PartContext(ORG, self.dataset, version, who)
        return who.hex, sealing.seal_part(self.data_keys[who], context, plain)

    def keys(self, child):
        packed = sealing.pack_keys(self.dataset, 1, self.data_keys)
        return sealing.seal_to(child, packed, info=sealing.job_info(self.job))

    def covered(self, subjects):
        self.asked.append(list(subjects))
        return subjects

    def feed(self, **changes):
        given = {
            "task": {
                "task": "query",
                "job": self.job.hex,
                "kind": "query",
                "parameters": {"filters": [], "want": "rows", "columns": ["age"]},
                "receiveKey": to_hex(self.public),
                "info": sealing.job_info(self.job).hex(),
                "org": ORG.hex,
                "dataset": self.dataset.hex,
                "version": 1,
                "parts": len(self.subjects),
            },
            "keys": self.keys,
            "parts": [self.part(who) for who in self.subjects],
            "covered": self.covered,
            "progress": lambda done, total: self.progress.append((done, total)),
        }
        return Feed(**(given | changes))

    def open(self, blob):
        info = sealing.result_info(self.job)
        return json.loads(sealing.open_sealed(self.private, blob, info=info))


@pytest.fixture
def task():
    return Task()


def failure(feed, limits=LIMITS):
    with pytest.raises(JobFailed) as failed:
        run_child(feed, limits)
    return failed.value.reason


def test_a_child_opens_what_it_was_given_and_seals_what_it_found(task):
    head, blob = run_child(task.feed(), LIMITS)
    mine = [who.hex for who in task.subjects]
    assert head["used"] == mine
    assert task.open(blob)["rows"] == [[who, "70"] for who in mine]
    assert task.asked == [mine]
    assert b"70" not in blob


def test_who_is_no_longer_covered_is_in_no_answer(task):
    head, blob = run_child(task.feed(covered=lambda subjects: subjects[1:]), LIMITS)
    assert head["dropped"] == [task.subjects[0].hex]
    assert [row[0] for row in task.open(blob)["rows"]] == [who.hex for who in task.subjects[1:]]


def test_a_part_without_a_key_stays_closed(task):
    feed = task.feed()
    del task.data_keys[task.subjects[0]]
    head, _ = run_child(feed, LIMITS)
    assert head["used"] == [who.hex for who in task.subjects[1:]]


@pytest.mark.parametrize("what", ["bit", "cut", "empty", "version", "swapped"])
def test_a_part_that_is_not_what_was_sealed_ends_the_task(task, what):
    (name, sealed), other = task.part(task.subjects[0]), task.part(task.subjects[1])
    changed = {
        "bit": (name, sealed[:-1] + bytes([sealed[-1] ^ 1])),
        "cut": (name, sealed[:-1]),
        "empty": (name, b""),
        "version": task.part(task.subjects[0], version=2),
        "swapped": (name, other[1]),
    }[what]
    assert failure(task.feed(parts=[changed])) == "part-corrupt"


@pytest.mark.parametrize(
    "plain", [b"{}", b"", b"[1]\n", b'{"a":NaN}\n', b"{\n", b"\xff\n", b"{}\n\n"]
)
def test_a_part_that_is_not_a_record_a_line_ends_the_task(task, plain):
    with pytest.raises(ValueError):  # noqa: PT011 - whichever the reader raises
        _records(plain)
    if plain in {b"{}", b"[1]\n"}:
        assert failure(task.feed(parts=[task.part(task.subjects[0], plain)])) == "part-unreadable"


def test_a_child_without_its_time_is_killed_even_while_it_is_fed(task):
    def endless():
        while True:
            yield SubjectId.new(ORG).hex, b"x" * 4096

    assert failure(task.feed(parts=endless()), Limits(1.0, 1 << 30)) == "time"


def test_a_child_that_has_a_reason_to_stop_is_killed_even_while_it_is_fed(task):
    def endless():
        while True:
            yield SubjectId.new(ORG).hex, b"x" * 4096

    begun = time.monotonic()
    stop = lambda: "cover-lost:1" if time.monotonic() > begun + 0.5 else None  # noqa: E731
    with pytest.raises(JobCancelled, match="cover-lost:1"):
        run_child(task.feed(parts=endless(), stop=stop), LIMITS)


def test_what_goes_wrong_while_looking_for_a_reason_ends_the_child_too(task):
    def stop():
        raise KeysUnavailable("away")

    def endless():
        while True:
            yield SubjectId.new(ORG).hex, b"x" * 4096

    with pytest.raises(KeysUnavailable):
        run_child(task.feed(parts=endless(), stop=stop), LIMITS)


def test_an_unknown_task_and_a_malformed_one_end_as_a_word(task):
    known = task.feed().task
    assert failure(task.feed(task={**known, "task": "train"})) == "failed-KeyError"
    assert failure(task.feed(task={**known, "receiveKey": "0x00"})).startswith("failed-")


def test_an_error_of_the_parents_own_ends_the_child(task):
    def away(child):
        raise KeysUnavailable("away")

    with pytest.raises(KeysUnavailable):
        run_child(task.feed(keys=away), LIMITS)
    assert children() == []


def test_a_child_sees_nothing_of_the_parents_environment(task, monkeypatch):
    monkeypatch.setenv("ASSENT_DATABASE_URL", "postgresql://secret")
    assert not any(name.startswith("ASSENT") for name in sandbox._environment())
    assert "secret" not in str(sandbox._environment())


# A child that was taken over: the same command, another program.

SAYS = """
import json, os, struct, sys, time
out, given = sys.stdout.buffer, sys.stdin.buffer

def say(kind, payload):
    out.write(struct.pack(">cI", kind, len(payload)) + payload)
    out.flush()

def hear():
    kind, length = struct.unpack(">cI", given.read(5))
    return kind, given.read(length)

def hello():
    hear()
    say(b"C", json.dumps({"childKey": "0x" + "11" * 32, "filesClosed": True}).encode())

def until_the_end():
    while hear()[0] != b"E":
        pass
"""


@pytest.fixture
def taken_over(tmp_path, monkeypatch):
    """Let children run another program than ours."""

    def over(program):
        folder = tmp_path / "exchange" / "worker"
        folder.mkdir(parents=True)
        (tmp_path / "exchange" / "__init__.py").write_text("")
        (folder / "__init__.py").write_text("")
        (folder / "child.py").write_text(SAYS + textwrap.dedent(program))
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}")
        monkeypatch.chdir(tmp_path)

    return over


KNOWN = "0x" + "11" * 32


@pytest.mark.parametrize(
    "program",
    [
        "",
        "os._exit(3)",
        "out.write(b'hello'); out.flush()",
        "say(b'R', b'{}\\0x')",
        "say(b'C', b'{}')",
        "say(b'C', b'[]')",
        "say(b'C', b'\\xff')",
        "say(b'C', b'[' * 100000)",
        "say(b'C', json.dumps({'childKey': '0x11'}).encode())",
        "out.write(struct.pack('>cI', b'C', 2**31)); out.flush()",
        "hello(); say(b'Z', b'')",
        "hello(); say(b'C', b'{}')",
        "hello(); say(b'R', b'[]\\0x')",
        "hello(); say(b'R', b'not json')",
        "hello(); say(b'Q', b'{}')",
        "hello(); say(b'Q', b'[1]')",
        "hello(); say(b'p', b'{}')",
        "hello(); say(b'p', json.dumps({'done': '1', 'total': 2}).encode())",
        "hello(); say(b'X', b'[]')",
        "hello(); out.write(struct.pack('>cI', b'R', 100) + b'cut'); out.flush()",
    ],
)
def test_a_child_that_says_something_else_is_lost_and_not_believed(task, taken_over, program):
    taken_over(program)
    with pytest.raises(SandboxLost):
        run_child(task.feed(keys=lambda child: b""), LIMITS)


def test_the_same_program_is_believed_when_it_says_what_is_expected(task, taken_over):
    taken_over("hello(); until_the_end(); say(b'R', b'{\"used\": []}\\0blob')")
    head, blob = run_child(task.feed(keys=lambda child: b""), LIMITS)
    assert (head, blob) == ({"used": []}, b"blob")


def test_a_reason_is_kept_short_and_heard_even_if_the_child_ended_early(task, taken_over):
    taken_over("hello(); say(b'X', json.dumps({'reason': 'r' * 5000}).encode())")
    big = [(who.hex, b"x" * (1 << 20)) for who in task.subjects]
    assert failure(task.feed(keys=lambda child: b"", parts=big)) == "r" * 200


def test_a_child_that_hangs_is_ended_at_its_time(task, taken_over):
    taken_over("hello(); time.sleep(600)")
    assert failure(task.feed(keys=lambda child: b""), Limits(1.0, 1 << 30)) == "time"
    assert children() == []


def test_a_child_with_open_files_is_noted_once(task, taken_over, caplog):
    sandbox._warn_of_open_files.cache_clear()
    taken_over(
        "hear(); say(b'C', json.dumps({'childKey': '0x' + '11' * 32}).encode());"
        "until_the_end(); say(b'R', b'{}\\0')"
    )
    for _ in range(2):
        run_child(task.feed(keys=lambda child: b""), LIMITS)
    assert [one.message for one in caplog.records].count(
        "this kernel has no Landlock: a job's child can read its user's files"
    ) == 1


def test_frames_are_read_whole_or_not_at_all():
    stream = io.BytesIO()
    frames.send_json(stream, frames.PART, {"subject": KNOWN}, b"\0bytes\0")
    kind, payload = frames.receive(io.BytesIO(stream.getvalue()))
    assert (kind, *frames.split(payload)) == (frames.PART, {"subject": KNOWN}, b"\0bytes\0")
    for length in range(len(stream.getvalue())):
        with pytest.raises(SandboxLost):
            frames.receive(io.BytesIO(stream.getvalue()[:length]))
    with pytest.raises(SandboxLost, match="longer"):
        frames.receive(io.BytesIO(struct.pack(">cI", b"P", frames.MOST + 1)))

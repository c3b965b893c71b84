"""``python -m ledger verify`` as a command: exit codes, what it prints, and what it refuses."""

import json
import subprocess
import sys

import pytest

from ledger.__main__ import STEPS, main
from ledger.errors import VerificationError
from ledger.trust import parse
from ledger.verify import verify_bundle
from tests.evidence import World, edited, honest
from tests.whole_log import leaves_of, page, receipt

POSITIONS = 97


@pytest.fixture(scope="module")
def world():
    made = honest()
    return made, made.bundle()


@pytest.fixture
def files(world, tmp_path):
    made, bundle = world
    (tmp_path / "bundle.json").write_bytes(bundle.to_bytes())
    (tmp_path / "trust.json").write_text(json.dumps(made.trust_json(bundle)))
    return tmp_path


def verify(folder, *arguments):
    given = [folder / "bundle.json", "--trust", folder / "trust.json", *arguments]
    return main(["verify", *(str(one) for one in given)])


def test_a_proof_is_told_step_by_step(files, capsys):
    assert verify(files) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [f"{number}  ok      {text}" for number, text in enumerate(STEPS)]
    assert "4 permitted, 5 withheld, 4 delivered, 0 stopped" in lines[-1]


def test_a_proof_is_told_as_one_json_object(world, files, capsys):
    made, bundle = world
    assert verify(files, "--json") == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {
        "verified": True,
        "kind": "release",
        "id": made.release.hex,
        "permitted": 4,
        "withheld": 5,
        "delivered": 4,
        "stopped": 0,
        "leaves": None,
        "receipts": 0,
        "checkpoint": {
            "size": bundle.checkpoint.size,
            "root": "0x" + bundle.checkpoint.root.hex(),
        },
    }


def test_the_whole_log_and_receipts_are_told_as_well(world, files, capsys):
    made, _ = world
    every = leaves_of(made)
    (files / "1.json").write_bytes(page(every, 0, 9))
    (files / "2.json").write_bytes(page(every, 9))
    (files / "receipt.json").write_bytes(receipt(made, 4))
    given = ["--leaves", files / "1.json", "--leaves", files / "2.json"]
    given += ["--receipt", files / "receipt.json"]
    assert verify(files, *given) == 0
    assert f"read {len(every)} leaves" in capsys.readouterr().out
    assert verify(files, *given, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["leaves"], told["receipts"]) == (len(every), 1)
    (files / "receipt.json").write_bytes(receipt(made, 4, leaf=b"x" * 32))
    assert verify(files, *given, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["verified"], told["step"]) == (False, 6)
    assert "leaf 4 is not the one receipted" in told["what"]
    with pytest.raises(SystemExit) as caught:
        verify(files, "--receipt", files / "receipt.json")
    assert caught.value.code == 2


def refused(folder, capsys):
    """The step at which the command fails, told alike in both forms."""
    assert verify(folder, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"verified", "step", "what", "error"}
    assert told["verified"] is False
    assert verify(folder) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{told['step']}  FAILED  {told['what']}"
    assert [line.split()[:2] for line in lines[:-1]] == [
        [str(number), "ok"] for number in range(told["step"])
    ]
    return told["step"]


@pytest.mark.parametrize("version", ["assent.bundle/2", "assent.bundle/0", "", None, 1])
def test_another_version_of_the_bundle_fails_at_step_1(world, files, capsys, version):
    _, bundle = world
    data = edited(bundle, lambda value: value.update(version=version))
    (files / "bundle.json").write_bytes(data)
    assert refused(files, capsys) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: value.update(version="assent.trust/2"),
        lambda value: value.pop("granted"),
        lambda value: value.update(checkpoints=[]),
        lambda value: (
            value.update(checkpoints=value["checkpoints"] * 2)
            or value["checkpoints"].__setitem__(
                0, value["checkpoints"][0] | {"root": "0x" + "1" * 64}
            )
        ),
    ],
)
def test_an_unusable_trust_file_fails_at_step_0(files, capsys, spoil):
    value = json.loads((files / "trust.json").read_text())
    spoil(value)
    (files / "trust.json").write_text(json.dumps(value))
    assert refused(files, capsys) == 0


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b"null"])
def test_a_trust_file_that_is_no_json_object_fails_at_step_0(files, capsys, data):
    (files / "trust.json").write_bytes(data)
    assert refused(files, capsys) == 0


def test_a_bundle_of_another_deployment_fails_at_step_1(world, files, capsys):
    made, bundle = world
    value = made.trust_json(bundle) | {"deployment": "0x" + "12" * 32}
    (files / "trust.json").write_text(json.dumps(value))
    assert refused(files, capsys) == 1


@pytest.mark.parametrize("part", [0.0, 0.001, 0.25, 0.5, 0.75, 0.999])
def test_a_truncated_bundle_fails_at_step_1(world, files, capsys, part):
    data = world[1].to_bytes()
    (files / "bundle.json").write_bytes(data[: int(len(data) * part)])
    assert refused(files, capsys) == 1


def test_a_changed_byte_at_many_places_fails_at_a_named_step(world):
    made, bundle = world
    data, trust = bundle.to_bytes(), made.trust(bundle)
    assert verify_bundle(data, trust).permitted == 4
    steps = set()
    for number in range(POSITIONS):
        place = number * len(data) // POSITIONS
        for flip in (0x01, 0x20, 0x80):
            changed = bytearray(data)
            changed[place] ^= flip
            with pytest.raises(VerificationError) as caught:
                verify_bundle(bytes(changed), trust)
            steps.add(caught.value.step)
    assert steps <= set(range(1, 8))
    assert len(steps) > 1


def test_a_changed_byte_of_the_trust_file_never_proves_more(files, world):
    made, bundle = world
    text = json.dumps(made.trust_json(bundle))
    honest_ = verify_bundle(bundle.to_bytes(), parse(json.loads(text)))
    for place in range(0, len(text), 13):
        changed = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        try:
            found = verify_bundle(bundle.to_bytes(), parse(json.loads(changed)))
        except (VerificationError, ValueError):
            continue
        # A block number, or an entry that this bundle does not need: the proof is the same.
        assert found == honest_


def test_missing_files_and_wrong_usage_exit_with_2(files, capsys):
    (files / "trust.json").rename(files / "elsewhere.json")
    assert verify(files, "--json") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"No such file or directory: {files / 'trust.json'}\n"
    with pytest.raises(SystemExit) as caught:
        main(["verify", str(files / "bundle.json")])
    assert caught.value.code == 2
    assert main([]) == 2
    assert main(["unknown"]) == 2
    capsys.readouterr()
    assert main(["--help"]) == 0
    assert "verify" in capsys.readouterr().out


def test_the_process_exits_as_the_command_says(files):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "ledger", "verify", *(str(one) for one in arguments)],
            capture_output=True,
            text=True,
            check=False,
        )

    good = run(files / "bundle.json", "--trust", files / "trust.json")
    assert (good.returncode, good.stderr) == (0, "")
    (files / "bundle.json").write_bytes(b"{}")
    bad = run(files / "bundle.json", "--trust", files / "trust.json")
    assert (bad.returncode, bad.stderr) == (1, "")
    assert bad.stdout.splitlines()[-1].startswith("1  FAILED")
    missing = run(files / "bundle.json", "--trust", files / "none.json")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "Traceback" not in missing.stderr


def test_a_world_without_subjects_is_proved(tmp_path, capsys):
    made = World()
    bundle = made.bundle()
    (tmp_path / "bundle.json").write_bytes(bundle.to_bytes())
    (tmp_path / "trust.json").write_text(json.dumps(made.trust_json(bundle)))
    assert verify(tmp_path) == 0
    assert "0 permitted, 0 withheld" in capsys.readouterr().out

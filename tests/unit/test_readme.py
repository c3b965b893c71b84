"""Everything that the README shows exists: commands, options, make targets, settings, files, routes."""

from __future__ import annotations

import re
import shlex
import tomllib

import pytest
import typer

from exchange.__main__ import app
from exchange.settings import described
from ledger.__main__ import VERBS
from ledger.__main__ import main as ledger_main
from tests.architecture import ROOT

README = ROOT / "README.md"
HOUSE = typer.main.get_command(app)


def shown_commands(text):
    """Each command of the README's shell blocks, as words, without its comment."""
    lines = [
        line.split("  #")[0]
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    inline = re.findall(r"`((?:assent|make|\.venv/bin/assent) ?[^`]*)`", text)
    parts = [part for line in [*lines, *inline] for part in line.split(" && ")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def missing_in(command, words):
    """What the command line does not know of these words, given to `command`."""
    below = getattr(command, "commands", {})
    if below and words and not words[0].startswith("-"):
        found = below.get(words[0])
        return missing_in(found, words[1:]) if found else [f"no command {words[0]}"]
    takes_any = command.context_settings.get("ignore_unknown_options", False)
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return [
        f"{command.name} has no option {word}"
        for word in words
        if word.startswith("--") and word != "--help" and word not in options and not takes_any
    ]


def missing_in_ledger(words, said):
    """What `python -m ledger` does not know; `said` returns a verb's own help."""
    if words[0] not in VERBS:
        return [f"no command {words[0]}"]
    known = set(re.findall(r"--[a-z-]+", said(words[0])))
    return [
        f"{words[0]} has no option {word}"
        for word in words[1:]
        if word.startswith("--") and word not in known
    ]


def missing(words, *, targets, said):
    """What one shown command names and the house does not have."""
    name = words[0].rsplit("/", 1)[-1]
    if name == "make":
        wanted = [word for word in words[1:] if "=" not in word]
        return [f"no target {word}" for word in wanted if word not in targets]
    if name == "assent":
        return missing_in(HOUSE, words[1:])
    if words[1:3] == ["-m", "ledger"]:
        return missing_in_ledger(words[3:], said)
    if words[1:3] == ["-m", "venv"] or name in {"curl", "pip", "uv"}:
        return []
    return [f"{words[0]} is no command of ours"]


@pytest.fixture
def said(capsys):
    def ask(verb):
        with pytest.raises(SystemExit):
            ledger_main([verb, "--help"])
        return capsys.readouterr().out

    return ask


@pytest.fixture(scope="module")
def targets():
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_command_exists(targets, said):
    commands = shown_commands(README.read_text())
    assert len(commands) > 25
    found = [one for words in commands for one in missing(words, targets=targets, said=said)]
    assert found == []


def test_every_verb_of_the_command_line_is_shown():
    text = README.read_text()
    roles = {"hospital", "patient"}
    verbs = [f"assent {name}" for name in HOUSE.commands if name not in {*roles, "prepare"}]
    verbs += [f"assent {role} {name}" for role in roles for name in HOUSE.commands[role].commands]
    unshown = {
        # Said by another verb's next step, or by the pages.
        *("assent hospital datasets", "assent hospital page", "assent demo"),
    }
    assert [one for one in verbs if one not in unshown and one not in text] == []


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_every_setting_exists():
    named = set(re.findall(r"\bASSENT_[A-Z_]+\b", README.read_text()))
    assert named
    assert named - {variable for variable, *_ in described()} == set()


def test_every_route_exists():
    from exchange import app as application

    text = README.read_text()
    routes = {
        re.sub(r"\{.*?\}", "ID", route.path) for one in application._ROUTERS for route in one.routes
    }
    named = set(re.findall(r"(?<=GET )/v1/[\w/]+|(?<=:8420)/v1/[\w/]+", text))
    assert named
    assert named - routes == set()


def test_the_extras_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"'\.\[(\w+)\]'", README.read_text()))
    assert named
    assert named - project["optional-dependencies"].keys() == set()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("make demos", "no target demos"),
        ("assent patients enrol", "no command patients"),
        ("assent patient grants", "no command grants"),
        (".venv/bin/assent patient grant --porpose HRESCH", "grant has no option --porpose"),
        ("python -m ledger prove bundle.json", "no command prove"),
        ("python -m ledger verify b.json --trusted t.json", "verify has no option --trusted"),
        ("sudo reboot", "sudo is no command of ours"),
    ],
)
def test_a_command_that_does_not_exist_is_seen(line, fault, targets, said):
    (words,) = shown_commands(f"```sh\n{line}  # a comment\n```\n")
    assert missing(words, targets=targets, said=said) == [fault]


def test_commands_within_a_line_are_read_as_well():
    assert shown_commands("Say `make test` or `assent doctor`, not `make`d.") == [
        ["make", "test"],
        ["assent", "doctor"],
        ["make"],
    ]

"""The static pages: nothing inline, nothing from elsewhere, every text there, vendored files as locked."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from exchange.app import create_app
from tests.architecture import ROOT
from tests.served import BASE, Served

WEB = ROOT / "exchange" / "web"
PAGES = sorted(path.name for path in WEB.glob("*.html"))
SOURCES = sorted(path for path in WEB.rglob("*.js") if "vendor" not in path.parts)
TEXTS = json.loads((WEB / "messages" / "en.json").read_text())
HEADS = {key.split(".")[0] for key in TEXTS}
CALL = re.compile(r"\b(t|count|word|has)\(\s*(?:\w+ \? )?(['`])(.+?)\2")
LITERAL = re.compile(r"'([a-z][\w]*(?:\.[\w=<>!-]+)+)'")


def vendoring() -> Any:
    spec = importlib.util.spec_from_file_location("vendor_web", ROOT / "scripts" / "vendor_web.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


vendor = vendoring()


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("web") / "exchange") as served:
        yield TestClient(create_app(served.exchange), base_url=BASE)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_holds_no_script_and_no_style_of_its_own(name):
    text = (WEB / name).read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", text) == []
    for wanted in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert "://" not in wanted
        assert (WEB / wanted).is_file()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(WEB).as_posix())
def test_a_module_loads_only_what_lies_here_and_writes_no_markup(path):
    text = path.read_text()
    for wanted in re.findall(
        r"^(?:import|export)\b[^;]*?from\s+'([^']+)'", text, re.MULTILINE | re.DOTALL
    ):
        assert (path.parent / wanted).is_file(), wanted
    assert re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(", text) == []
    assert "dangerouslySetInnerHTML" not in text
    assert len(text.splitlines()) <= 400


def patterns() -> tuple[set[str], list[re.Pattern[str]]]:
    """The keys that the modules name in full, and the forms of those they put together."""
    exact: set[str] = set()
    forms: list[re.Pattern[str]] = []
    for path in SOURCES:
        text = path.read_text()
        exact |= set(LITERAL.findall(text))
        for verb, _, key in CALL.findall(text):
            end = {"count": r"\.(zero|one|other)", "word": r"\..+"}.get(verb, "")
            if "${" in key or end:
                body = re.sub(r"\\?\$\\?\{.*?\\?\}", ".+", re.escape(key))
                forms.append(re.compile(body + end))
            else:
                exact.add(key)
        # A template whose expression itself holds quotes: what stands before it is enough.
        heads = [key for key in re.findall(r"`([a-z]+)\.\$\{", text) if key in HEADS]
        forms += [re.compile(key + r"\..+") for key in heads]
    return exact, forms


def test_every_text_that_is_shown_exists_and_none_is_left_over():
    exact, forms = patterns()
    named = {key for key in exact if "." in key and key.split(".")[0] in HEADS}
    counted = {key for key in named if f"{key}.other" in TEXTS}
    assert named - set(TEXTS) - counted == set()
    assert [form.pattern for form in forms if not any(map(form.fullmatch, TEXTS))] == []
    left = [
        key
        for key in TEXTS
        if key not in exact
        and re.sub(r"\.(zero|one|other)$", "", key) not in counted
        and not any(form.fullmatch(key) for form in forms)
    ]
    assert left == []


def test_a_text_says_something_and_every_count_has_its_plural():
    assert [key for key, text in TEXTS.items() if not text.strip()] == []
    assert [key for key in TEXTS if key.endswith(".one") and f"{key[:-4]}.other" not in TEXTS] == []


def test_the_pages_are_served_with_their_types_and_under_a_strict_policy(http):
    kinds = {
        "/": "text/html; charset=utf-8",
        "/patient.html": "text/html; charset=utf-8",
        "/patient.js": "text/javascript; charset=utf-8",
        "/vendor/preact.js": "text/javascript; charset=utf-8",
        "/style.css": "text/css; charset=utf-8",
        "/messages/en.json": "application/json",
        "/mark.svg": "image/svg+xml",
    }
    for path, kind in kinds.items():
        answer = http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind), path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-cache"


def test_a_page_that_does_not_exist_is_a_problem_and_nothing_outside_is_served(http):
    for path in ("/nothing.html", "/..%2fapi%2fapp.py", "/%2e%2e/settings.py", "/vendor"):
        answer = http.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"].startswith("application/problem+json")


def test_the_vendored_files_are_the_locked_ones():
    vendor.check()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "preact.js").write_text("alert(1)"), "preact.js was changed"),
        (lambda folder: (folder / "more.js").write_text(""), "not as noted: more.js"),
        (lambda folder: (folder / "licences" / "htm.txt").unlink(), "not as noted"),
    ],
)
def test_a_vendored_file_that_was_touched_is_noticed(tmp_path, damage, message):
    folder = Path(shutil.copytree(WEB / "vendor", tmp_path / "vendor"))
    damage(folder)
    with pytest.raises(vendor.Refused, match=message):
        vendor.check(folder)


def test_a_bare_import_is_noticed(tmp_path):
    folder = Path(shutil.copytree(WEB / "vendor", tmp_path / "vendor"))
    path = folder / "preact.js"
    path.write_text("import { x } from 'elsewhere';\n")
    notes = json.loads((folder / "hashes.json").read_text())
    notes["preact.js"]["sha256"] = vendor.digest(path.read_bytes())
    (folder / "hashes.json").write_text(json.dumps(notes))
    with pytest.raises(vendor.Refused, match="elsewhere by a bare name"):
        vendor.check(folder)


def test_imports_of_vendored_packages_become_relative():
    text = "import { sha256 } from '@noble/hashes/sha2.js';\nimport { x } from './utils.js';\n"
    place = "noble-curves/abstract/weierstrass.js"
    written, found = vendor.rewrite(text, "@noble/curves", "abstract/weierstrass.js", place)
    assert written.splitlines() == [
        "import { sha256 } from '../../noble-hashes/sha2.js';",
        "import { x } from './utils.js';",
    ]
    assert found == [("@noble/hashes", "sha2.js"), ("@noble/curves", "abstract/utils.js")]
    with pytest.raises(vendor.Refused, match="not vendored"):
        vendor.rewrite("import x from 'left-pad';\n", "htm", "x.js", "preact.js")

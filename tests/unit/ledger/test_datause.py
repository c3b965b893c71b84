import importlib.util
import json
from pathlib import Path

import pytest

from ledger import _duo
from ledger.datause import (
    CC,
    DS,
    GRU,
    HMB,
    NRES,
    POA,
    PURPOSES,
    DataUse,
    covers,
    includes,
    is_research,
    parse_code,
    research_of,
)
from ledger.errors import MalformedValue

ROOT = Path(__file__).resolve().parents[3]
CODES = ROOT.parent / "shared" / "data" / "codes"


def test_a_purpose_covers_itself_and_what_lies_beneath():
    for purpose in ("BIORCH", "CLINTRCHNPC", "CLINTRCHPC", "DSRCH", "POARCH", "PRECLINTRCH"):
        assert covers("HRESCH", purpose)
        assert not covers(purpose, "HRESCH")
    assert covers("TREAT", "ETREAT")
    assert covers("TREAT", "BTG")
    assert covers("TREAT", "CAREMGT")
    assert not covers("TREAT", "HRESCH")
    assert not covers("HMARKT", "HMARKT")
    assert not covers("HRESCH", "nothing")


def test_permissions_include_by_definition_and_not_by_class_tree():
    assert all(includes(NRES, code) for code in (GRU, HMB, DS, POA))
    assert includes(GRU, POA)
    assert not includes(HMB, POA)
    assert not includes(HMB, GRU)
    assert not includes(DS, HMB)
    assert not includes("DUO:9999999", GRU)
    assert not includes(GRU, "DUO:9999999")


def test_codes_are_read_in_every_form_of_the_field():
    assert parse_code("DUO:0000007") == (DS,)
    assert parse_code("http://purl.obolibrary.org/obo/DUO_0000007") == (DS,)
    assert parse_code("HMB") == (HMB,)
    assert parse_code("http://purl.obolibrary.org/obo/DUO_00000044") == ("DUO:0000044",)
    assert parse_code("DUO:0000005") == (GRU, CC)
    assert parse_code("DUO:0000014") == (GRU,)
    for text in ("DUO:0000001", "DUO:9999999", "gru", ""):
        with pytest.raises(MalformedValue):
            parse_code(text)


def test_a_data_use_knows_its_codes_by_branch():
    assert DataUse(GRU, (CC,)).known
    assert not DataUse(CC).known
    assert not DataUse(GRU, (HMB,)).known
    assert DataUse(GRU, (CC,)).to_json() == {"code": GRU, "modifiers": [CC]}
    assert is_research("DSRCH")
    assert research_of("DSRCH") == DS
    assert not is_research("TREAT")


def test_the_committed_table_is_the_releases():
    source = CODES / "duo" / "duo.csv"
    if not source.is_file():
        pytest.skip("../shared/data is absent")
    spec = importlib.util.spec_from_file_location("gen_duo", ROOT / "scripts" / "gen_duo.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert generator.render(source) == Path(_duo.__file__).read_text(encoding="utf-8")


def test_purposes_are_codes_of_the_code_system():
    source = CODES / "hl7" / "CodeSystem-v3-ActReason.json"
    if not source.is_file():
        pytest.skip("../shared/data is absent")
    known = set()

    def walk(concepts):
        for concept in concepts:
            known.add(concept["code"])
            walk(concept.get("concept", []))

    walk(json.loads(source.read_text(encoding="utf-8"))["concept"])
    assert known >= PURPOSES

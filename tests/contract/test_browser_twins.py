"""What the pages compute in a real Chromium equals what `ledger` and `exchange.sealing` compute.

The modules run as the exchange serves them, under its policy; the vectors are those that hold the Python
side, so that neither side can drift alone.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from exchange.app import create_app
from exchange.sealing import result_info, seal_to
from ledger.ids import JobId
from tests.architecture import ROOT
from tests.served import Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VECTORS = ROOT / "tests" / "vectors"
Run = Callable[..., Any]


def vectors(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return read


@pytest.fixture(scope="module")
def run(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Calls a function of a page's modules: ``run(modules, "(m, given) => …", given)``."""
    with Served(tmp_path_factory.mktemp("twins") / "exchange") as served:
        served.app = create_app(served.exchange)
        with served.listening() as url:
            context = browser.new_context()
            page = context.new_page()
            page.goto(f"{url}/index.html")
            load = """async ([names, source, given]) => {
                const loaded = await Promise.all(names.map((name) => import(`/${name}.js`)));
                return await (SOURCE)(Object.assign({}, ...loaded), given);
            }"""

            def call(names: str, source: str, given: Any) -> Any:
                return page.evaluate(load.replace("SOURCE", source), [names.split(), source, given])

            yield call
            context.close()


def test_structs_digests_and_signatures(run: Run) -> None:
    given = vectors("eip712")
    found = run(
        "sign bytes keys",
        """(m, given) => given.messages.filter((one) => one.primaryType in m.TYPES).map((one) => {
            const [name, salt] = [one.primaryType, given.domain.salt];
            const key = new m.Key(m.fromHex(given.key, 32));
            return {
                primaryType: name, type: m.TYPES[name],
                structHash: m.toHex(m.structHash(name, one.message)),
                digest: m.toHex(m.digest(name, one.message, salt)),
                signature: m.sign(key, name, one.message, salt),
                holds: m.isSignedBy(m.toHex(key.address), name, one.message, one.signature, salt),
            };
        })""",
        given,
    )
    known = {"Terms", "Grant", "Withdraw", "Lift", "Redeemed", "Login", "Receipt", "Checkpoint"}
    assert {one["primaryType"] for one in found} == known | {"Document"}
    fields = ("primaryType", "type", "structHash", "digest", "signature")
    wanted = [one for one in given["messages"] if one["primaryType"] in known | {"Document"}]
    assert [{name: one[name] for name in fields} | {"holds": True} for one in wanted] == found


def test_a_signature_that_was_changed_is_none(run: Run) -> None:
    """Another message, a malleated s, another deployment: all are refused."""
    given = vectors("eip712")
    one = next(item for item in given["messages"] if item["primaryType"] == "Receipt")
    n = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    raw = bytes.fromhex(one["signature"][2:])
    vs = int.from_bytes(raw[32:], "big")
    high = n - (vs & (2**255 - 1))
    malleated = "0x" + (raw[:32] + high.to_bytes(32, "big")).hex()
    found = run(
        "sign",
        """(m, { address, salt, one, malleated }) => [
            m.isSignedBy(address, 'Receipt', one.message, one.signature, salt),
            m.isSignedBy(address, 'Receipt', { ...one.message, index: 7 }, one.signature, salt),
            m.isSignedBy(address, 'Receipt', one.message, malleated, salt),
            m.isSignedBy(address, 'Receipt', one.message, one.signature, one.message.leafHash),
            m.isSignedBy(address, 'Receipt', one.message, '0x00', salt),
        ]""",
        {
            "address": given["address"],
            "salt": given["domain"]["salt"],
            "one": one,
            "malleated": malleated,
        },
    )
    assert found == [True, False, False, False, False]


def test_codes_and_identity_keys(run: Run) -> None:
    given = vectors("derivation")
    found = run(
        "bytes keys",
        """(m, given) => ({
            codes: given.codes.map(({ code, text }) => [
                m.codeToText(m.fromHex(code)), m.toHex(m.codeFromText(text.toLowerCase())),
                m.toHex(m.codeKey(m.fromHex(code)).address)]),
            identities: given.identities.map(({ seed, org }) =>
                m.toHex(m.identityKey(m.fromHex(seed), m.fromHex(org)).address)),
        })""",
        given,
    )
    assert found["codes"] == [[one["text"], one["code"], one["address"]] for one in given["codes"]]
    assert found["identities"] == [one["address"] for one in given["identities"]]


@pytest.mark.parametrize(
    "text",
    ["", "AAAQ-EAYE", "AAAQ-EAYE-AUDA-OCAJ-BIFQ-YDIO-B1", "AAAQ-EAYE-AUDA-OCAJ-BIFQ-YDIO-B5"],
)
def test_a_code_that_was_mistyped_is_refused(run: Run, text: str) -> None:
    source = "(m, text) => { try { m.codeFromText(text); } catch (error) { return error.name; } }"
    assert run("bytes", source, text) == "RangeError"


def test_canonical_bytes_documents_and_ids(run: Run) -> None:
    given = vectors("commitment")
    found = run(
        "sign bytes canonical",
        """(m, given) => ({
            canonical: given.canonical.map((one) => m.toHex(m.canonical(one.value))),
            documentHash: m.toHex(m.digestOf(given.document)),
            consents: given.consents.map(({ terms }) => [
                m.toHex(m.structHash('Terms', terms)), m.consentId(terms), m.untilDay(terms.until)]),
            days: given.untilDay.map(({ ends }) => m.untilDay(ends)),
        })""",
        given,
    )
    assert found["canonical"] == [one["bytes"] for one in given["canonical"]]
    assert found["documentHash"] == given["documentHash"]
    assert found["consents"] == [
        [one["commitment"], one["consent"], one["untilDay"]] for one in given["consents"]
    ]
    assert found["days"] == [one["untilDay"] for one in given["untilDay"]]


@pytest.mark.parametrize("value", ["1.5", "2 ** 53", "'\\ud800'", "undefined", "new Date()"])
def test_what_has_no_canonical_spelling_is_refused(run: Run, value: str) -> None:
    source = (
        f"(m) => {{ try {{ return m.spell({value}); }} catch (error) {{ return error.name; }} }}"
    )
    assert run("canonical", source, None) == "RangeError"


def test_proofs_of_the_log(run: Run) -> None:
    given = vectors("merkle")
    found = run(
        "merkle bytes",
        """(m, given) => {
            const bytes = (texts) => texts.map((text) => m.fromHex(text, 32));
            const [leaves, roots] = [bytes(given.leaves), bytes(given.roots)];
            const wrong = (proof) => proof.map((one, at) => (at ? one : one.map((byte) => byte ^ 1)));
            const included = (one, change) => m.isIncluded(
                leaves[one.index], one.index, one.size, change(bytes(one.proof)), roots[one.size]);
            const consistent = (one, change) => m.isConsistent(
                one.first, one.second, change(bytes(one.proof)), roots[one.first], roots[one.second]);
            const same = (proof) => proof;
            const real = (list) => list.filter((one) => one.proof.length > 0);
            return {
                roots: roots.map((_, size) => m.toHex(m.rootOf(leaves.slice(0, size)))),
                included: given.inclusion.every((one) => included(one, same)),
                consistent: given.consistency.every((one) => consistent(one, same)),
                forged: real(given.inclusion).some((one) => included(one, wrong)),
                rewritten: real(given.consistency).some((one) => consistent(one, wrong)),
                cut: real(given.inclusion).some((one) => included(one, (proof) => proof.slice(1))),
            };
        }""",
        given,
    )
    assert found == {
        "roots": given["roots"],
        "included": True,
        "consistent": True,
        "forged": False,
        "rewritten": False,
        "cut": False,
    }


def test_an_answer_sealed_in_python_opens_in_the_browser(run: Run) -> None:
    """And neither with another job's id, nor after one bit was changed."""
    job, other = JobId.new(), JobId.new()
    plain = secrets.token_bytes(300)
    public = run(
        "hpke",
        "async (m) => { globalThis.held = await m.newReceiveKey(); return held.publicKey; }",
        None,
    )
    sealed = seal_to(bytes.fromhex(public[2:]), plain, info=result_info(job))
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    source = """async (m, { sealed, job }) => {
        const info = m.concat(m.utf8('assent result/1'), m.fromHex(job));
        try { return m.toHex(await m.openSealed(held, m.fromHex(sealed), info)); }
        catch (error) { return error.name; }
    }"""
    modules = "hpke bytes"
    good = run(modules, source, {"sealed": "0x" + sealed.hex(), "job": job.hex})
    assert good == "0x" + plain.hex()
    for wrong in (
        {"sealed": "0x" + sealed.hex(), "job": other.hex},
        {"sealed": "0x" + flipped.hex(), "job": job.hex},
    ):
        assert run(modules, source, wrong) == "OperationError"

"""``python -m ledger``: verify, trust, vectors, build, deploy.

Each verb imports only what it needs: an auditor verifies without web3, solc or a network.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ledger.errors import LedgerError, VerificationError

STEPS = (
    "the trust file is whole and of this deployment",
    "the bundle is canonical and every body is the one its leaf commits to",
    "invitations, redemptions, terms, grants, request and manifest are signed",
    "every consent's id is that of the signed terms",
    "the consents were in force by leaf order, on the chain, and none is left out",
    "deciding again gives the same rulings",
    "everything is included under an anchored, signed checkpoint",
    "what left is what was permitted and published",
)


def _verify(argv: Sequence[str]) -> int:
    from ledger.forks import read_log
    from ledger.trust import parse_bytes
    from ledger.verify import verify_bundle

    parser = argparse.ArgumentParser(
        prog="python -m ledger verify", description="Prove a bundle of evidence, offline."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--trust", type=Path, required=True, help="what `trust` wrote")
    parser.add_argument(
        "--leaves",
        type=Path,
        action="append",
        default=[],
        help="a page of GET /v1/leaves; all of them together show forks of the log; repeatable",
    )
    parser.add_argument(
        "--receipt",
        type=Path,
        action="append",
        default=[],
        help="a receipt that the log must keep, or a list of them; needs --leaves; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args(argv)
    if chosen.receipt and not chosen.leaves:
        parser.error("--receipt needs every leaf: give --leaves as well")
    try:
        trust = parse_bytes(chosen.trust.read_bytes())
        pages = [path.read_bytes() for path in chosen.leaves]
        receipts = [path.read_bytes() for path in chosen.receipt]
        every = read_log(pages, receipts) if pages else None
        found = verify_bundle(chosen.bundle.read_bytes(), trust, every)
    except VerificationError as error:
        if chosen.json:
            outcome = {"verified": False, "step": error.step, "what": error.what}
            print(json.dumps({**outcome, "error": type(error).__name__}))
        else:
            for number, text in enumerate(STEPS[: error.step or 0]):
                print(f"{number}  ok      {text}")
            print(f"{error.step}  FAILED  {error.what}")
        return 1
    if chosen.json:
        print(
            json.dumps(
                {
                    "verified": True,
                    "kind": found.kind,
                    "id": found.id,
                    "permitted": found.permitted,
                    "withheld": found.withheld,
                    "delivered": found.delivered,
                    "stopped": found.stopped,
                    "leaves": None if every is None else len(every.leaves),
                    "receipts": len(every.receipts) if every else 0,
                    "checkpoint": {
                        "size": found.checkpoint_size,
                        "root": "0x" + found.checkpoint_root.hex(),
                    },
                }
            )
        )
        return 0
    for number, text in enumerate(STEPS):
        print(f"{number}  ok      {text}")
    print(
        f"verified: {found.kind} {found.id}: {found.permitted} permitted, {found.withheld} "
        f"withheld, {found.delivered} delivered, {found.stopped} stopped; "
        f"log of {found.checkpoint_size} leaves"
    )
    if every is not None:
        print(
            f"read {len(every.leaves)} leaves: no chain forks, every head is the last one, "
            f"{len(every.receipts)} receipts kept"
        )
    return 0


def _trust(argv: Sequence[str]) -> int:
    from ledger.abi import CONTRACTS
    from ledger.chain import fetch_trust
    from ledger.messages import from_hex
    from ledger.trust import parse, parse_bytes, require_not_behind

    parser = argparse.ArgumentParser(
        prog="python -m ledger trust",
        description="Ask a node of your choice what a verification trusts; prints trust.json.",
    )
    parser.add_argument("--rpc", required=True, help="URL of an Ethereum node's JSON-RPC")
    parser.add_argument(
        "--deployment",
        type=Path,
        required=True,
        help="the exchange's published description, with the contracts' addresses",
    )
    parser.add_argument("--previous", type=Path, help="an older trust.json not to fall behind")
    parser.add_argument("--out", type=Path, help="write here instead of to standard output")
    chosen = parser.parse_args(argv)
    try:
        described = json.loads(chosen.deployment.read_bytes())
        addresses = {name: from_hex(described["addresses"][name], 20) for name in CONTRACTS}
    except (ValueError, LookupError, TypeError):
        raise LedgerError("the description of the deployment names no contracts") from None
    fetched = fetch_trust(chosen.rpc, addresses)
    # The description is the exchange's word: what it says must be what the chain says.
    for name in ("deployment", "exchange"):
        if name in described and described[name] != fetched[name]:
            raise LedgerError(f"the chain's {name} is not the described one")
    trust = parse(fetched)
    if chosen.previous is not None:
        require_not_behind(trust, parse_bytes(chosen.previous.read_bytes()))
    text = json.dumps(fetched, indent=1, sort_keys=True) + "\n"
    if chosen.out is None:
        sys.stdout.write(text)
        return 0
    partial = chosen.out.with_name(chosen.out.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(chosen.out)
    return 0


def _vectors(argv: Sequence[str]) -> int:
    from ledger.vectors import render_all

    parser = argparse.ArgumentParser(
        prog="python -m ledger vectors",
        description="Write the vectors that every implementation of the formats must meet.",
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("tests/vectors"))
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    chosen = parser.parse_args(argv)
    stale = 0
    for name, text in render_all().items():
        path = chosen.folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        print(f"{'differs' if chosen.check else 'written'}: {path}")
        if not chosen.check:
            chosen.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if chosen.check and stale else 0


def _build(argv: Sequence[str]) -> int:
    from ledger.build import main

    return main(list(argv))


def _deploy(argv: Sequence[str]) -> int:
    from ledger.deploy import deploy
    from ledger.messages import from_hex
    from ledger.signing import Key

    parser = argparse.ArgumentParser(
        prog="python -m ledger deploy",
        description="Put the contracts on a chain; prints their description. Safe to repeat.",
    )
    parser.add_argument("--rpc", required=True)
    parser.add_argument("--deployment", required=True, help="0x and 32 bytes: the deployment's id")
    parser.add_argument("--founder", action="append", required=True, help="address; repeatable")
    parser.add_argument("--log-key", required=True, help="address of the log key")
    parser.add_argument(
        "--relayer-key", type=Path, required=True, help="file with the paying key, 0x-hex"
    )
    chosen = parser.parse_args(argv)
    relayer = Key.from_bytes(from_hex(chosen.relayer_key.read_text("ascii").strip(), 32))
    made = deploy(
        chosen.rpc,
        from_hex(chosen.deployment, 32),
        [from_hex(one, 20) for one in chosen.founder],
        from_hex(chosen.log_key, 20),
        relayer,
    )
    print(json.dumps(made.to_json(), indent=1))
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "verify": _verify,
    "trust": _trust,
    "vectors": _vectors,
    "build": _build,
    "deploy": _deploy,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns 0, 1 (refused or not proved) or 2 (wrong usage)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in VERBS:
        asked_help = bool(arguments) and arguments[0] in ("-h", "--help")
        print(
            f"usage: python -m ledger {{{','.join(VERBS)}}} ...",
            file=sys.stdout if asked_help else sys.stderr,
        )
        return 0 if asked_help else 2
    try:
        return VERBS[arguments[0]](arguments[1:])
    except LedgerError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{os.strerror(error.errno or 0)}: {error.filename}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""Every way in which the record cannot answer.

A refusal is a value (a denial), never an error. An error means that the question could not be
answered. Messages name ids and counts, never contents.

::

    LedgerError
    ├─ MalformedValue                 bytes or text that do not have the required form
    │  └─ IdMalformed                 names the type of id, shows at most 12 characters
    ├─ VersionUnknown                 a document, policy or leaf version this code does not know
    ├─ ConsentError
    │  ├─ ConsentNotFound
    │  ├─ IllegalTransition
    │  ├─ GrammarUnknown              a consent document of a grammar this code does not know
    │  └─ ConsentMalformed            carries the pointer to the offending member
    ├─ SignatureInvalid
    ├─ VerificationError              carries the number of the failed step
    │  ├─ TrustInvalid                0: the trust file is unusable, stale or of another deployment
    │  ├─ BundleMalformed             1: not canonical, of unknown shape, or at odds with itself
    │  ├─ EvidenceInvalid             2: who should have signed did not
    │  ├─ CommitmentMismatch          3
    │  ├─ NotInForce                  4: left out, out of order, withdrawn or not on the chain
    │  ├─ RulingNotReproducible       5
    │  ├─ InclusionInvalid            6
    │  ├─ CheckpointInvalid           6
    │  └─ ReleaseMismatch             7: what left is not what was permitted and published
    ├─ ChainError
    │  ├─ ChainUnreachable  *
    │  ├─ NotMined          *
    │  ├─ Reverted                    carries the contract error's name and arguments
    │  ├─ Reorganised                 blocks that were seen are gone
    │  └─ WrongChain                  another chain, contract code or deployment than expected
    ├─ NodeError                      the managed node
    │  ├─ NodeUnavailable   *         its engine did not start or stopped answering
    │  └─ JournalNotReproduced        carries the number of the block that came out differently
    └─ BuildError                     the contracts could not be compiled

    * = Transient: safe to repeat

    UserWarning
    └─ InsecureLedgerWarning          a stand-in without durability is in use
"""

from __future__ import annotations

from collections.abc import Mapping


class LedgerError(Exception):
    """Root of everything that this package raises on purpose."""


class Transient:
    """Marks errors after which the same call may be repeated safely."""


class MalformedValue(LedgerError):
    """Bytes or text do not have the form that the type requires."""


class IdMalformed(MalformedValue):
    """Text is not an id of the named type: lower-case 0x-hex of the type's length."""

    def __init__(self, type_name: str, shown: str) -> None:
        self.type_name = type_name
        super().__init__(f"not a {type_name}: {shown[:12]!r}")


class VersionUnknown(LedgerError):
    """A version this code does not know; unknown means no."""


class ConsentError(LedgerError):
    """A consent cannot be found or moved to the wanted state."""


class ConsentNotFound(ConsentError):
    """No consent has this id."""


class IllegalTransition(ConsentError):
    """The consent's state does not allow this step."""


class GrammarUnknown(ConsentError):
    """The document names no grammar that this code knows; unknown means no."""


class ConsentMalformed(ConsentError):
    """A consent document or its terms break the grammar.

    ``pointer`` is the JSON pointer (RFC 6901) of the offending member, never its value.
    """

    def __init__(self, pointer: str, problem: str) -> None:
        self.pointer = pointer
        super().__init__(f"{pointer or '/'}: {problem}")


class SignatureInvalid(LedgerError):
    """A signature does not verify, is malleated, or belongs to another key or deployment."""


class VerificationError(LedgerError):
    """The evidence does not prove what it claims.

    ``step`` is the number of the failed step in the auditor's proof, or None where the failing
    part is not called from that proof. ``what`` says what failed, with ids and counts only.
    """

    def __init__(self, message: str, *, step: int | None = None) -> None:
        super().__init__(message if step is None else f"step {step}: {message}")
        self.step = step
        self.what = message


class TrustInvalid(VerificationError):
    """The trust file is unusable, older than a known one, or of another deployment."""


class BundleMalformed(VerificationError):
    """The bundle is not canonical, has another shape, or contradicts itself."""


class EvidenceInvalid(VerificationError):
    """A signature, invitation or document is missing or not by whom it should be."""


class NotInForce(VerificationError):
    """A consent chain is incomplete, or a consent was not in force by leaf order."""


class ReleaseMismatch(VerificationError):
    """What was delivered differs from what was permitted and published."""


class CommitmentMismatch(VerificationError):
    """A commitment is not the digest of what it is said to commit to."""


class InclusionInvalid(VerificationError):
    """A Merkle proof does not lead to the stated root."""


class CheckpointInvalid(VerificationError):
    """A checkpoint is unsigned, contradictory or not the one on the chain."""


class RulingNotReproducible(VerificationError):
    """Deciding again gives another ruling."""


class ChainError(LedgerError):
    """The chain could not be asked, or did not do what was asked."""


class ChainUnreachable(Transient, ChainError):
    """No answer within the time limit; whether a submission arrived is unknown."""


class NotMined(Transient, ChainError):
    """A transaction was handed in but no block holds it yet."""


class Reverted(ChainError):
    """A contract refused. ``name`` and ``args_by_name`` are decoded by the contract's ABI.

    ``name`` is ``"Unknown"`` (with the raw selector in ``args_by_name``) for an error that no
    ABI of ours describes.
    """

    def __init__(self, name: str, args_by_name: Mapping[str, object] | None = None) -> None:
        self.name = name
        self.args_by_name: dict[str, object] = dict(args_by_name or {})
        shown = ", ".join(f"{key}={value}" for key, value in self.args_by_name.items())
        super().__init__(f"{name}({shown})")


class Reorganised(ChainError):
    """A block that was already seen is no longer part of the chain."""


class WrongChain(ChainError):
    """Chain id, genesis hash, contract code or deployment id differ from the expected ones."""


class NodeError(LedgerError):
    """The managed node cannot keep its promise."""


class NodeUnavailable(Transient, NodeError):
    """The node's engine could not be started or does not answer."""


class JournalNotReproduced(NodeError):
    """Replaying the journal gave another block than the recorded one."""

    def __init__(self, block_number: int) -> None:
        self.block_number = block_number
        super().__init__(f"journal does not reproduce block {block_number}")


class BuildError(LedgerError):
    """The contracts could not be compiled, or an artifact is missing or unreadable."""


class InsecureLedgerWarning(UserWarning):
    """A ledger that forgets everything at exit is in use."""

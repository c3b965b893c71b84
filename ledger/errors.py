"""Every way in which the record cannot answer.

A refusal is a value (a denial), never an error. An error means that the question could not be
answered. Messages name ids and counts, never contents.

::

    LedgerError
    ├─ MalformedValue                 bytes or text that do not have the required form
    ├─ VersionUnknown                 a document, policy or leaf version this code does not know
    ├─ ConsentError
    │  ├─ ConsentNotFound
    │  └─ IllegalTransition
    ├─ SignatureInvalid
    ├─ VerificationError              carries the number of the failed step
    │  ├─ CommitmentMismatch
    │  ├─ InclusionInvalid
    │  ├─ CheckpointInvalid
    │  └─ RulingNotReproducible
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


class VersionUnknown(LedgerError):
    """A version this code does not know; unknown means no."""


class ConsentError(LedgerError):
    """A consent cannot be found or moved to the wanted state."""


class ConsentNotFound(ConsentError):
    """No consent has this id."""


class IllegalTransition(ConsentError):
    """The consent's state does not allow this step."""


class SignatureInvalid(LedgerError):
    """A signature does not verify, is malleated, or belongs to another key or deployment."""


class VerificationError(LedgerError):
    """The evidence does not prove what it claims.

    ``step`` is the number of the failed step in the auditor's proof, or None where the failing
    part is not called from that proof.
    """

    def __init__(self, message: str, *, step: int | None = None) -> None:
        super().__init__(message if step is None else f"step {step}: {message}")
        self.step = step


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

"""What every ledger does, whatever it stands on; run over memory and over a chain."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from ledger.errors import Reverted
from ledger.interface import NO_END, ChainStatus, ConsentLedger, Rejection
from ledger.signing import Admit, Domain, Message, Replace, Retire, Rotate
from tests.ledgers import LOG, Signed, a_key, by_address, checkpoint, malleated

ROOT = hashlib.sha256(b"root").digest()
OTHER_ROOT = hashlib.sha256(b"another root").digest()
FOUNDERS = [a_key(f"founder {number}") for number in range(3)]
NEWCOMER = a_key("newcomer")


class LedgerBehaviour:
    """Subclasses give the fixtures ``ledger`` and ``domain``; the founders are FOUNDERS."""

    # Consents

    def test_nothing_is_known_at_first(self, ledger: ConsentLedger, domain: Domain) -> None:
        assert ledger.status_of(Signed(domain).id) == (ChainStatus.NONE, 0)
        assert not ledger.in_force(Signed(domain).id, 0)

    def test_a_grant_is_in_force_until_its_last_day(
        self, ledger: ConsentLedger, domain: Domain
    ) -> None:
        consent = Signed(domain, until_day=20_800)
        ledger.grant([consent.grant])
        assert ledger.status_of(consent.id) == (ChainStatus.ACTIVE, 20_800)
        assert ledger.in_force(consent.id, 20_800)
        assert not ledger.in_force(consent.id, 20_801)

    def test_a_consent_without_an_end(self, ledger: ConsentLedger, domain: Domain) -> None:
        consent = Signed(domain, until_day=NO_END)
        ledger.grant([consent.grant])
        assert ledger.in_force(consent.id, NO_END)

    def test_a_withdrawal_is_final_and_forgets_the_day(
        self, ledger: ConsentLedger, domain: Domain
    ) -> None:
        consent = Signed(domain)
        ledger.grant([consent.grant])
        ledger.withdraw([consent.withdrawal])
        assert ledger.status_of(consent.id) == (ChainStatus.WITHDRAWN, 0)
        assert not ledger.in_force(consent.id, 0)
        again = ledger.grant([consent.grant])
        assert again.rejected == (Rejection(consent.id, "AlreadyWithdrawn"),)
        twice = ledger.withdraw([consent.withdrawal])
        assert twice.rejected == (Rejection(consent.id, "AlreadyWithdrawn"),)

    def test_a_tombstone_keeps_a_withheld_grant_from_coming_to_life(
        self, ledger: ConsentLedger, domain: Domain
    ) -> None:
        consent = Signed(domain)
        ledger.withdraw([consent.withdrawal])
        assert ledger.status_of(consent.id) == (ChainStatus.WITHDRAWN, 0)
        late = ledger.grant([consent.grant])
        assert late.rejected == (Rejection(consent.id, "AlreadyWithdrawn"),)

    def test_a_grant_twice_changes_nothing(self, ledger: ConsentLedger, domain: Domain) -> None:
        consent = Signed(domain)
        ledger.grant([consent.grant])
        again = ledger.grant([consent.grant])
        assert again.rejected == (Rejection(consent.id, "AlreadyActive"),)
        assert ledger.status_of(consent.id) == (ChainStatus.ACTIVE, consent.until_day)

    def test_a_bad_item_does_not_stop_its_batch(
        self, ledger: ConsentLedger, domain: Domain
    ) -> None:
        first, bad, last = Signed(domain), Signed(domain), Signed(domain)
        stranger = replace(bad.grant, consent_key=a_key("stranger").address)
        done = ledger.grant([first.grant, stranger, last.grant])
        assert [rejection.reason for rejection in done.rejected] == ["NotTheConsentKey"]
        assert ledger.status_of(first.id)[0] is ChainStatus.ACTIVE
        assert ledger.status_of(last.id)[0] is ChainStatus.ACTIVE
        assert ledger.status_of(bad.id)[0] is ChainStatus.NONE

    def test_signatures_that_are_not_the_message_are_refused(
        self, ledger: ConsentLedger, domain: Domain
    ) -> None:
        consent = Signed(domain)
        elsewhere = Signed(Domain(hashlib.sha256(b"elsewhere").digest()), key=consent.key)
        flipped = bytearray(consent.grant.signature)
        flipped[40] ^= 1
        bad = [
            replace(consent.grant, signature=malleated(consent.grant.signature)),
            replace(consent.grant, signature=bytes(flipped)),
            replace(consent.grant, signature=bytes(64)),
            replace(consent.grant, signature=consent.withdrawal.signature),
            replace(consent.grant, until_day=consent.until_day + 1),
            replace(consent.grant, consent_key=bytes(20), signature=bytes(64)),
            elsewhere.grant,
        ]
        done = ledger.grant(bad)
        assert [rejection.reason for rejection in done.rejected] == ["NotTheConsentKey"] * len(bad)
        assert ledger.status_of(consent.id) == (ChainStatus.NONE, 0)

    def test_a_grant_does_not_withdraw(self, ledger: ConsentLedger, domain: Domain) -> None:
        consent = Signed(domain)
        ledger.grant([consent.grant])
        done = ledger.withdraw([replace(consent.withdrawal, signature=consent.grant.signature)])
        assert done.rejected == (Rejection(consent.id, "NotTheConsentKey"),)
        assert ledger.in_force(consent.id, 0)

    def test_events_come_in_order_with_their_place(
        self, ledger: ConsentLedger, domain: Domain
    ) -> None:
        start = ledger.head().number + 1
        one, two = Signed(domain), Signed(domain)
        ledger.grant([one.grant, two.grant])
        ledger.withdraw([one.withdrawal])
        events = list(ledger.events(start, ledger.head().number))
        assert [(event.kind, event.id) for event in events] == [
            ("granted", one.id),
            ("granted", two.id),
            ("withdrawn", one.id),
        ]
        for event in events:
            head = ledger.head_at(event.block_number)
            assert head is not None
            assert head.hash == event.block_hash
            assert event.timestamp > 0
        places = [(event.block_number, event.log_index) for event in events]
        assert places == sorted(set(places))

    def test_nothing_to_submit_is_nothing(self, ledger: ConsentLedger) -> None:
        assert ledger.grant([]).tx_hashes == ()

    def test_beyond_the_head_there_is_no_block(self, ledger: ConsentLedger) -> None:
        assert ledger.head_at(ledger.head().number + 1) is None

    # Checkpoints

    def test_checkpoints_only_grow(self, ledger: ConsentLedger, domain: Domain) -> None:
        start = ledger.head().number + 1
        signers = by_address(*FOUNDERS[:2])
        ledger.anchor(
            5,
            ROOT,
            checkpoint(LOG, domain, 5, ROOT),
            [checkpoint(key, domain, 5, ROOT) for key in signers],
        )
        with pytest.raises(Reverted, match="SizeShrinks"):
            ledger.anchor(4, ROOT, checkpoint(LOG, domain, 4, ROOT))
        with pytest.raises(Reverted, match="SecondRoot"):
            ledger.anchor(5, OTHER_ROOT, checkpoint(LOG, domain, 5, OTHER_ROOT))
        ledger.anchor(9, OTHER_ROOT, checkpoint(LOG, domain, 9, OTHER_ROOT))
        events = [e for e in ledger.events(start, ledger.head().number) if e.kind == "checkpoint"]
        assert [(e.size, e.root, e.cosignatures) for e in events] == [
            (5, ROOT, 2),
            (9, OTHER_ROOT, 0),
        ]

    def test_the_same_checkpoint_again_is_harmless(
        self, ledger: ConsentLedger, domain: Domain
    ) -> None:
        start = ledger.head().number + 1
        signature = checkpoint(LOG, domain, 5, ROOT)
        cosignature = checkpoint(FOUNDERS[0], domain, 5, ROOT)
        for cosignatures in ([], [], [cosignature], [cosignature]):
            ledger.anchor(5, ROOT, signature, cosignatures)
        events = [e for e in ledger.events(start, ledger.head().number) if e.kind == "checkpoint"]
        assert [e.cosignatures for e in events] == [0, 1]

    def test_a_checkpoint_needs_the_log_key(self, ledger: ConsentLedger, domain: Domain) -> None:
        with pytest.raises(Reverted, match="NotTheLogKey"):
            ledger.anchor(5, ROOT, checkpoint(FOUNDERS[0], domain, 5, ROOT))
        with pytest.raises(Reverted, match="NotTheLogKey"):
            ledger.anchor(5, ROOT, malleated(checkpoint(LOG, domain, 5, ROOT)))
        with pytest.raises(Reverted, match="NotTheLogKey"):
            ledger.anchor(6, ROOT, checkpoint(LOG, domain, 5, ROOT))
        with pytest.raises(Reverted, match="SizeZero"):
            ledger.anchor(0, ROOT, checkpoint(LOG, domain, 0, ROOT))

    def test_cosigners_are_members_each_once(self, ledger: ConsentLedger, domain: Domain) -> None:
        signature = checkpoint(LOG, domain, 5, ROOT)
        one, two = (checkpoint(key, domain, 5, ROOT) for key in by_address(*FOUNDERS[:2]))
        with pytest.raises(Reverted, match="NotAMember"):
            ledger.anchor(5, ROOT, signature, [checkpoint(NEWCOMER, domain, 5, ROOT)])
        with pytest.raises(Reverted, match="NotAMember"):
            ledger.anchor(5, ROOT, signature, [malleated(one)])
        for cosignatures in ([one, one], [two, one]):
            with pytest.raises(Reverted, match="SignersNotAscending"):
                ledger.anchor(5, ROOT, signature, cosignatures)

    # Participants

    def signed(self, message: Message, domain: Domain, *names: int) -> list[bytes]:
        """Founders' signatures in the order that the contracts want."""
        return [key.sign(message, domain) for key in by_address(*(FOUNDERS[n] for n in names))]

    def test_two_members_admit(self, ledger: ConsentLedger, domain: Domain) -> None:
        message = Admit(NEWCOMER.address)
        with pytest.raises(Reverted, match="TooFewSignatures"):
            ledger.admit(NEWCOMER.address, self.signed(message, domain, 0))
        twice = self.signed(message, domain, 0) * 2
        with pytest.raises(Reverted, match="SignersNotAscending"):
            ledger.admit(NEWCOMER.address, twice)
        outsiders = [key.sign(message, domain) for key in by_address(NEWCOMER, a_key("another"))]
        with pytest.raises(Reverted, match="NotAMember"):
            ledger.admit(NEWCOMER.address, outsiders)
        ledger.admit(NEWCOMER.address, self.signed(message, domain, 0, 1))
        assert NEWCOMER.address in ledger.participants()
        with pytest.raises(Reverted, match="AlreadyKnown"):
            ledger.admit(NEWCOMER.address, self.signed(message, domain, 0, 1))

    def test_the_old_and_the_new_key_rotate(self, ledger: ConsentLedger, domain: Domain) -> None:
        old = FOUNDERS[0]
        message = Rotate(old.address, NEWCOMER.address)
        by_old, by_new = old.sign(message, domain), NEWCOMER.sign(message, domain)
        rotate = ledger.rotate
        with pytest.raises(Reverted, match="NotSignedBy"):
            rotate(old.address, NEWCOMER.address, old_signature=by_new, new_signature=by_new)
        with pytest.raises(Reverted, match="NotSignedBy"):
            rotate(old.address, NEWCOMER.address, old_signature=by_old, new_signature=by_old)
        rotate(old.address, NEWCOMER.address, old_signature=by_old, new_signature=by_new)
        assert ledger.participants() == {key.address for key in (*FOUNDERS[1:], NEWCOMER)}
        with pytest.raises(Reverted, match="NotAMember"):
            rotate(old.address, NEWCOMER.address, old_signature=by_old, new_signature=by_new)

    def test_the_others_replace_a_lost_key(self, ledger: ConsentLedger, domain: Domain) -> None:
        lost = FOUNDERS[2]
        message = Replace(lost.address, NEWCOMER.address)
        by_new = NEWCOMER.sign(message, domain)
        with pytest.raises(Reverted, match="TooFewSignatures"):
            ledger.replace(
                lost.address,
                NEWCOMER.address,
                self.signed(message, domain, 0),
                new_signature=by_new,
            )
        with pytest.raises(Reverted, match="NotAMember"):
            ledger.replace(
                lost.address,
                NEWCOMER.address,
                self.signed(message, domain, 0, 2),
                new_signature=by_new,
            )
        two = self.signed(message, domain, 0, 1)
        with pytest.raises(Reverted, match="NotSignedBy"):
            ledger.replace(lost.address, NEWCOMER.address, two, new_signature=two[0])
        ledger.replace(lost.address, NEWCOMER.address, two, new_signature=by_new)
        assert ledger.participants() == {key.address for key in (*FOUNDERS[:2], NEWCOMER)}

    def test_retired_is_final(self, ledger: ConsentLedger, domain: Domain) -> None:
        leaving = FOUNDERS[2]
        signature = leaving.sign(Retire(leaving.address), domain)
        with pytest.raises(Reverted, match="NotSignedBy"):
            ledger.retire(leaving.address, FOUNDERS[0].sign(Retire(leaving.address), domain))
        ledger.retire(leaving.address, signature)
        assert leaving.address not in ledger.participants()
        with pytest.raises(Reverted, match="NotAMember"):
            ledger.retire(leaving.address, signature)
        with pytest.raises(Reverted, match="AlreadyKnown"):
            ledger.admit(leaving.address, self.signed(Admit(leaving.address), domain, 0, 1))

    def test_when_all_have_retired_nobody_can_join(
        self, ledger: ConsentLedger, domain: Domain
    ) -> None:
        for key in FOUNDERS:
            ledger.retire(key.address, key.sign(Retire(key.address), domain))
        assert ledger.participants() == frozenset()
        with pytest.raises(Reverted, match="NoMembers"):
            ledger.admit(NEWCOMER.address, [])

    def test_participant_events_tell_the_change(
        self, ledger: ConsentLedger, domain: Domain
    ) -> None:
        message = Rotate(FOUNDERS[0].address, NEWCOMER.address)
        ledger.rotate(
            FOUNDERS[0].address,
            NEWCOMER.address,
            old_signature=FOUNDERS[0].sign(message, domain),
            new_signature=NEWCOMER.sign(message, domain),
        )
        events = [e for e in ledger.events(0, ledger.head().number) if e.kind == "participant"]
        assert [(e.change, e.participant, e.successor) for e in events] == [
            *(("admitted", key.address, None) for key in FOUNDERS),
            ("rotated", FOUNDERS[0].address, NEWCOMER.address),
        ]

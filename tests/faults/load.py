"""Patients, a hospital and jobs at work while processes are killed; it remembers what it was told.

Everything that was acknowledged goes into a :class:`~tests.faults.book.Book`. A request that breaks is repeated with
the same idempotency key until it is answered, as a careful client does.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from pathlib import Path

import httpx2

from exchange.demo.people import RESEARCH, Crowd
from exchange.documents import REQUEST_KIND
from exchange.errors import EnvelopeCorrupt, JobFailed
from exchange.hospital.asking import ENDED, open_result
from exchange.hospital.client import ExchangeClient
from exchange.hospital.client import Problem as HospitalProblem
from exchange.hospital.receive import open_release_stream
from exchange.hospital.request import job_document
from exchange.patient.client import Problem as PatientProblem
from exchange.patient.signing import sign_lift
from exchange.stream import DATA, KEY, read_json, read_messages
from ledger.errors import SignatureInvalid
from ledger.ids import ConsentId, ReleaseId
from ledger.messages import to_hex
from ledger.signing import sign_document
from tests.faults.book import Ack, Book, Delivery, JobEnd, now_ms

_PATIENCE_SECONDS = 90.0
_AGAIN_SECONDS = 0.1
_PASSING = frozenset({"idempotency-in-flight", "chain-behind"})


class Unanswered(Exception):
    """Nobody answered a request, however often it was repeated."""


def passing(problem, later=()):
    """Whether a refusal says: later. ``later`` names more that do."""
    return problem.status in (502, 503, 504) or problem.slug in (*_PASSING, *later)


class Load:
    """``patients`` threads of patients, one requester, one who runs jobs."""

    def __init__(self, world, wishes, dataset, *, seed, patients=3, pause=0.05):
        self.world = world
        self.book = Book()
        self._wishes = wishes
        self._dataset = dataset
        self._seed = seed
        self._pause = pause
        self._stop = threading.Event()
        self._crowd = Crowd(world.url)
        works = [
            lambda number=number: self._patients(number, patients) for number in range(patients)
        ]
        works += [self._requester, self._jobs]
        self._threads = [threading.Thread(target=self._guarded, args=(one,)) for one in works]

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        """Finish what was begun, then stop."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS * 2)
            if thread.is_alive():
                self.book.errors.append("a client hangs")
        self._crowd.close()

    def _guarded(self, work):
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever a client meets is a finding
            slug = getattr(error, "slug", "")
            with self.book.lock:
                self.book.errors.append(f"{type(error).__name__} {slug}: {error}"[:300])

    def _patiently(self, call, later=()):
        """Repeat a call until it is answered; what else is refused is raised."""
        end = time.monotonic() + _PATIENCE_SECONDS
        last = ""
        while time.monotonic() < end:
            try:
                return call()
            except httpx2.TransportError as error:
                last = type(error).__name__
            except (PatientProblem, HospitalProblem) as problem:
                if not passing(problem, later):
                    raise
                last = problem.slug
            with self.book.lock:
                self.book.repeated += 1
            time.sleep(_AGAIN_SECONDS)
        raise Unanswered(last)

    # Patients ------------------------------------------------------------------------------

    def _patients(self, number, of):
        draw = random.Random(f"{self._seed}/{number}")
        mine = self._wishes[number::of]
        held = {wish.subject.hex: [] for wish in mine}
        while not self._stop.is_set():
            wish = draw.choice(mine)
            patient = self._crowd.client(wish)
            consents = held[wish.subject.hex]
            if not consents or (len(consents) < 3 and draw.random() < 0.4):
                deny = draw.random() < 0.15 and not any(one[1] for one in consents)
                decision = "deny" if deny else "permit"
                wanted = {} if deny else {"purposes": [RESEARCH]}
                document = self._patiently(
                    lambda patient=patient, decision=decision, wanted=wanted: patient.document(
                        decision, **wanted
                    )
                )
                signed = patient.sign(document)
                self._act(patient, wish, "object" if deny else "grant", signed.id,
                          "/v1/consents", signed.submission)  # fmt: skip
                consents.append((signed.id, deny))
            else:
                consent, deny = consents.pop(draw.randrange(len(consents)))
                body = {}
                if deny:
                    kept = patient.withdrawals[consent]
                    body = {
                        "signature": to_hex(kept.withdraw_signature),
                        "lift": to_hex(
                            sign_lift(kept.commitment, patient.identity, patient.domain)
                        ),
                    }
                self._act(patient, wish, "lift" if deny else "withdraw", consent,
                          f"/v1/consents/{consent.hex}/withdrawal", body)  # fmt: skip
            time.sleep(draw.uniform(0, 2 * self._pause))

    def _act(self, patient, wish, verb, consent, path, body):
        headers = {"Idempotency-Key": secrets.token_hex(16)}

        def call():
            return patient._ask("POST", path, body, headers=headers)

        began = now_ms()
        with self.book.lock:
            self.book.begun[verb, consent.hex] = (wish.subject.hex, began)
        # An objection is lifted once the chain has recorded it; until then the answer is: later.
        later = ("conflict",) if verb == "lift" else ()
        answer = self._patiently(call, later)
        at = now_ms()
        again = self._patiently(call) if secrets.randbelow(8) == 0 else answer
        with self.book.lock:
            self.book.acks.append(_ack(verb, wish.subject.hex, answer, at))
            if ConsentId.parse(answer["consent"]) != consent:
                self.book.differing.append(f"{verb} {consent.hex}: another consent is answered")
            if _differ(again, answer):
                self.book.differing.append(f"{verb} {consent.hex}: repeated, another answer")

    # The requester -------------------------------------------------------------------------

    def _requester(self):
        hospital = self.world.hospitals[1]
        client = ExchangeClient.of(hospital.identity)
        out = self.world.folder / "received"
        try:
            while not self._stop.is_set():
                asked = now_ms()
                request = self._request(client, hospital)
                key = secrets.token_hex(16)
                answer = self._patiently(
                    lambda request=request, key=key: _decided(client, request, key)
                )
                with self.book.lock:
                    self.book.decided[answer["release"]] = asked
                if answer["decision"] == "permit":
                    self._receive(client, hospital, answer["release"], asked, out)
                self._stop.wait(self._pause)
        finally:
            client.close()

    def _request(self, client, hospital):
        found = self._patiently(lambda: client.get(f"/v1/datasets/{self._dataset}"))
        request = {
            "kind": REQUEST_KIND,
            "requester": hospital.org.hex,
            "dataset": self._dataset,
            "version": found["version"],
            "purpose": RESEARCH,
            "categories": sorted(found["categories"]),
            "action": "disclose",
            "receiveKey": "0x" + hospital.identity.receive_public.hex(),
            "nonce": "0x" + secrets.token_hex(16),
            "at": int(time.time()),
        }
        pins = hospital.identity.pins()
        signature = sign_document(hospital.identity.signing, REQUEST_KIND, request, pins.domain)
        return {"request": request, "signature": "0x" + signature.hex()}

    def _receive(self, client, hospital, release, asked, out: Path):
        """Take the stream; one that breaks is kept as far as it came, since its bytes were opened."""
        pins = hospital.identity.pins()
        pieces, times = [], []

        def stream():
            pieces.clear()
            times.clear()
            with client.stream(f"/v1/releases/{release}/content") as chunks:
                for chunk in chunks:
                    times.append(now_ms())
                    pieces.append(chunk)

        try:
            self._patiently_once(stream)
        except HospitalProblem as problem:
            # Streamed once: what broke off while it ran cannot be asked for again.
            if problem.slug != "conflict":
                raise
        if not pieces:
            return
        subjects = opened(pieces)
        whole, records = False, 0
        try:
            received = open_release_stream(
                pieces, hospital.identity.receive, pins.exchange, pins.domain, out,
                release=ReleaseId.parse(release),
            )  # fmt: skip
            whole, records = True, received.records
        except (EnvelopeCorrupt, SignatureInvalid):
            pass
        with self.book.lock:
            self.book.deliveries.append(
                Delivery(release, hospital.org.hex, asked, times[0], subjects, whole, records)
            )

    def _patiently_once(self, stream):
        """Repeat until the stream has begun; never after."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end:
            try:
                stream()
            except httpx2.ConnectError:
                time.sleep(_AGAIN_SECONDS)
            except httpx2.TransportError:
                return
            except HospitalProblem as problem:
                if not passing(problem):
                    raise
                time.sleep(_AGAIN_SECONDS)
            else:
                return
        raise Unanswered("a release")

    # Jobs ----------------------------------------------------------------------------------

    def _jobs(self):
        hospital = self.world.hospitals[1]
        client = ExchangeClient.of(hospital.identity)
        try:
            while not self._stop.is_set():
                found = self._patiently(lambda: client.get(f"/v1/datasets/{self._dataset}"))
                document = job_document(
                    hospital.identity,
                    job="query",
                    dataset=self._dataset,
                    version=found["version"],
                    purpose=RESEARCH,
                    categories=found["categories"],
                    action="disclose",
                    parameters={"filters": [], "want": "rows", "columns": ["systolic"]},
                )
                key = secrets.token_hex(16)
                asked = now_ms()
                job = self._patiently(
                    lambda document=document, key=key: client.post("/v1/queries", document, key=key)
                )
                self._finish(client, hospital, job["job"], asked)
                self._stop.wait(self._pause)
        finally:
            client.close()

    def _finish(self, client, hospital, job, asked):
        end = time.monotonic() + _PATIENCE_SECONDS
        status = {"status": "lost"}
        while time.monotonic() < end:
            status = self._patiently(lambda: client.get(f"/v1/jobs/{job}"))
            if status["status"] in ENDED:
                break
            time.sleep(_AGAIN_SECONDS)
        subjects = ()
        if status["status"] == "done":
            try:
                answer = self._patiently(lambda: open_result(client, hospital.identity, status))
                subjects = tuple(sorted({row[0] for row in answer["rows"]}))
            except JobFailed as failed:
                status = {"status": f"done, but {failed.reason}"}
        with self.book.lock:
            self.book.jobs.append(JobEnd(job, asked, status["status"], subjects))


def opened(pieces):
    """Subjects of whom a key and at least one byte arrived, however the stream ended."""
    found, subject = [], None
    try:
        for kind, payload in read_messages(pieces):
            if kind == KEY:
                names = {"subject", "wrapped", "digest", "length", "records"}
                subject = read_json(payload, names)["subject"]
            elif kind == DATA and subject is not None and subject not in found:
                found.append(subject)
    except EnvelopeCorrupt:
        pass
    return tuple(found)


def _decided(client, request, key):
    try:
        return client.post("/v1/requests", request, key=key)
    except HospitalProblem as problem:
        if problem.slug != "denied":
            raise
        return problem.document


def _ack(verb, subject, answer, at):
    receipt = answer.get("receipt") or {}
    return Ack(verb, answer["consent"], subject, at, receipt.get("index"), receipt.get("leafHash"))


def _differ(again, answer):
    """Whether a repetition tells another consent, or a receipt of another leaf.

    A receipt that keys could not sign at once comes later; once there it stays the same.
    """
    if again["consent"] != answer["consent"]:
        return True
    indexes = {one["receipt"]["index"] for one in (again, answer) if one.get("receipt")}
    return len(indexes) > 1

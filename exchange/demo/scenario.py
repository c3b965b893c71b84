"""The scenario of ``make demo``, also run by the end-to-end tests (over HTTP, on real processes).

Each journey is one method, timed; each compares what happened with what the patients' wishes say. A
difference raises :class:`Differs`: the demonstration fails rather than report it.
"""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from compute.client.encryption import make_keys
from compute.models import ModelFile, load_pinned
from compute.presets import preset_for
from compute.score import decisions, scores
from compute.train import fit_logistic_regression, fit_mlp
from exchange.demo.patients import FEATURES, Person, training_set
from exchange.demo.people import RESEARCH, TREATMENT, Crowd, Wish, counts, deal
from exchange.demo.world import Hospital, World
from exchange.documents import MODEL_KIND
from exchange.errors import ExchangeError
from exchange.hospital.asking import await_job, open_result, run_query
from exchange.hospital.encrypted import covering_consents, open_reply, submit_encrypted
from exchange.hospital.publishing import publish_file
from exchange.hospital.receiving import receive_release
from exchange.hospital.request import ask, job_document
from ledger.signing import sign_document, to_hex

Say = Callable[[str], None]
_RECORDED_SECONDS = 60.0
EXPIRE_SECONDS = 12


class Differs(ExchangeError):
    """What the exchange did is not what the patients' wishes say."""


class Scenario:
    """Runs the journeys in order and gathers the report."""

    def __init__(self, world: World, people: list[list[Person]], *, say: Say, began: float) -> None:
        self.world = world
        self.people = people
        self.say = say
        self.began = began
        self.report: dict[str, Any] = {"seconds": {}}
        self.wishes: list[list[Wish]] = []
        self.datasets: dict[str, str] = {}
        self.crowd = Crowd(world.url)
        self.models: dict[str, ModelFile] = {}
        self.releases: list[str] = []

    @staticmethod
    def differs(what: str) -> Differs:
        """The error that a difference is."""
        return Differs(what)

    @property
    def publisher(self) -> Hospital:
        """Hospital A."""
        return self.world.hospitals[0]

    @property
    def requester(self) -> Hospital:
        """Hospital B."""
        return self.world.hospitals[1]

    def run(self) -> dict[str, Any]:
        """All journeys; the report.

        Raises:
            Differs: something that must hold does not.
        """
        from exchange.demo.auditing import audit, forge

        with self._timed("enrol and sign", "enrol"):
            self.enrol()
        with self._timed("publish notes, FHIR and a table", "publish"):
            self.publish()
        with self._timed("find, ask, receive", "release"):
            self.release()
        with self._timed("query", "query"):
            self.query()
        with self._timed("inference on ciphertext", "encrypted"):
            self.encrypted()
        with self._timed("a torch model on covered records", "plain"):
            self.plain()
        with self._timed("withdraw while a job runs", "withdraw"):
            self.withdraw()
        with self._timed("an auditor verifies", "audit"):
            self.report |= audit(self)
        with self._timed("an operator forges", "forge"):
            self.report |= forge(self)
        with self._timed("a patient looks", "history"):
            self.history()
        self.report["chain"] = self._chain()
        self.crowd.close([wish for group in self.wishes for wish in group])
        return self.report

    # The journeys --------------------------------------------------------------------------

    def enrol(self) -> None:
        """Hospitals invite, patients redeem and sign; the first grant is timed from the beginning."""
        for hospital, people in zip(self.world.hospitals, self.people, strict=True):
            entries = hospital.enrol([person.record for person in people])
            self.wishes.append(deal(entries))
        # B's own patients let B compute on what B encrypts for them.
        for index, wish in enumerate(self.wishes[1]):
            wish.kind = "treatment" if index % 4 else "none"
        first = next(wish for wish in self.wishes[0] if wish.kind == "purpose")
        self._sign([first])
        self.crowd.await_recorded([first], seconds=_RECORDED_SECONDS)
        self.report["seconds_to_first_grant"] = round(time.time() - self.began, 2)
        self.say(f"  first grant recorded {self.report['seconds_to_first_grant']} s after the start")
        everybody = [wish for group in self.wishes for wish in group]
        self._sign([wish for wish in everybody if wish is not first])
        self.crowd.await_recorded(everybody, seconds=_RECORDED_SECONDS)
        self.report["patients"] = len(everybody)
        self.report["wishes"] = counts(everybody)
        self.say(f"  {len(everybody)} patients signed: {_listed(counts(everybody))}")

    def publish(self) -> None:
        """A publishes three datasets, B a table of its own."""
        files = self.publisher.files
        for form, title in (
            ("notes", "Clinical notes of a general hospital"),
            ("fhir", "Conditions and observations"),
            ("table", "Cardiovascular risk factors"),
        ):
            done = publish_file(
                self.publisher.home,
                files[form],
                form=form,
                title=title,
                description="Generated records; no real person is in them.",
                patients=files["patients"],
                progress=lambda _step, _done, _total: None,
            )
            if done["status"] != "published":
                raise Differs(f"the {form} were {done['status']}")
            self.datasets[form] = done["dataset"]
            self.say(f"  {form}: {done['records']} records of {done['subjects']} subjects published")

    def release(self) -> None:
        """B finds, asks with a purpose, and opens exactly the consenting patients' records."""
        found = self.requester.http.get("/v1/datasets", text="notes")["items"]
        if [item["dataset"] for item in found] != [self.datasets["notes"]]:
            raise Differs("the catalogue does not find the notes")
        self._expire()
        answer = ask(
            self.requester.http,
            self.requester.identity,
            dataset=self.datasets["notes"],
            version=None,
            purpose=RESEARCH,
        )
        self.releases.append(answer["release"])
        got = receive_release(
            self.requester.home, answer["release"], self.world.folder / "received"
        )
        expected = self._covered(self.requester, RESEARCH)
        if set(got["subjects"]) != expected:
            raise Differs(f"{len(got['subjects'])} subjects came, {len(expected)} consented")
        withheld = self._withheld(answer["release"])
        self.report["released"] = {"subjects": len(expected), "records": got["records"]}
        self.report["withheld"] = withheld
        self.say(f"  released {got['records']} records of {len(expected)} subjects")
        self.say(f"  withheld {sum(withheld.values())} subjects: {_listed(withheld)}")
        denied = ask(
            self.requester.http,
            self.requester.identity,
            dataset=self.datasets["notes"],
            version=None,
            purpose="HPAYMT",
        )
        if denied["decision"] != "deny":
            raise Differs("a purpose that nobody agreed to was not denied")
        self.say("  asked again for payment: denied, and recorded")

    def query(self) -> None:
        """Counts below eleven are hidden; rows are those of covered subjects alone."""
        table = self.datasets["table"]
        home = self.requester.home
        covered = self._covered(self.requester, RESEARCH)
        by_subject = self._by_subject()
        high = {who for who in covered if by_subject[who].values[1] >= 120}
        counted = run_query(
            home, table, purpose=RESEARCH, where=["systolic >= 120"], columns=[]
        )
        if counted["subjects"] != (len(high) if len(high) >= 11 else None):
            raise Differs("the count is not that of the covered patients")
        # The fifth highest value: at least five patients, and fewer than eleven, are above it.
        rare = sorted((by_subject[who].values[1] for who in covered), reverse=True)[4]
        few = run_query(home, table, purpose=RESEARCH, where=[f"systolic >= {rare}"], columns=[])
        if few["subjects"] is not None:
            raise Differs("a count below eleven was shown")
        rows = run_query(
            home, table, purpose=RESEARCH, where=["systolic >= 120"], columns=["systolic"]
        )
        if {row[0] for row in rows["rows"]} != high:
            raise Differs("the rows are not those of the covered patients")
        coded = run_query(
            home,
            self.datasets["fhir"],
            purpose=RESEARCH,
            where=["resourceType = Condition"],
            columns=["code.coding.code"],
        )
        if {row[0] for row in coded["rows"]} != covered:
            raise Differs("the conditions are not those of the covered patients")
        self.report["query"] = {
            "count": counted["subjects"],
            "small_count": few["subjects"],
            "rows": len(rows["rows"]),
            "fhir_rows": len(coded["rows"]),
        }
        self.say(
            f"  {counted['subjects']} subjects with systolic >= 120, {len(rows['rows'])} rows; "
            f"systolic >= {rare}: hidden, fewer than 11"
        )

    def encrypted(self) -> None:
        """A's model on B's ciphertexts: the server sees weights, never a value (decision D9)."""
        rows, labels = training_set(400, seed=7)
        model = fit_logistic_regression(
            np.array(rows), np.array(labels), features=FEATURES, output="at risk", name="risk"
        )
        self._register(self.publisher, "risk", model)
        consents = covering_consents(self.requester.http, TREATMENT, ["tables"])
        by_subject = self._by_subject()
        slots = [(who, consents[who]) for who in sorted(consents)]
        values = np.array([by_subject[who].values for who, _ in slots])
        holder = make_keys(preset_for(0))
        job, header = submit_encrypted(
            self.requester.http,
            self.requester.identity,
            holder,
            values,
            slots,
            card=model.card,
            purpose=TREATMENT,
            categories=["tables"],
        )
        status = await_job(self.requester.http, job["job"], seconds=120)
        if status["status"] != "done":
            raise Differs(f"the encrypted job is {status['status']}: {status['detail']}")
        opened = open_reply(self.requester.http, holder, header, status, model.card)
        truth, plain_decisions = _clear(model, values)
        agreement = float(np.mean(np.array(opened["decisions"]) == plain_decisions))
        error = float(np.max(np.abs(np.array(opened["scores"]) - truth)))
        self.report["encrypted_agreement"] = {
            "patients": len(slots),
            "decisions": agreement,
            "max_score_error": round(error, 4),
            "engine": status["kind"],
        }
        if agreement < 1:
            raise Differs("decisions on ciphertext differ from those in the clear")
        self.say(
            f"  {len(slots)} patients in one ciphertext: {agreement:.0%} of decisions agree, "
            f"largest difference {error:.4f}"
        )

    def plain(self) -> None:
        """B's torch model on A's covered records; nobody else's row enters."""
        rows, labels = training_set(400, seed=8)
        model = fit_mlp(
            np.array(rows),
            np.array(labels),
            features=FEATURES,
            outputs=("low", "high"),
            hidden=8,
            activation="relu",
            seed=3,
        )
        self._register(self.requester, "mlp", model)
        answer, status = self._infer("mlp")
        covered = self._covered(self.requester, RESEARCH)
        by_subject = self._by_subject()
        got = {item["subject"]: item for item in answer["predictions"]}
        if set(got) != covered:
            raise Differs("the model ran on other patients than the covered ones")
        order = sorted(got)
        _, wanted = _clear(model, np.array([by_subject[who].values for who in order]))
        same = float(np.mean([got[who]["decision"] for who in order] == wanted))
        self.report["plain_model"] = {
            "architecture": model.card.architecture,
            "subjects": len(got),
            "agreement": same,
            "seconds": round((status["updated"] - status["created"]) / 1000, 2),
        }
        if same < 1:
            raise Differs("torch decides otherwise than plain arithmetic")
        self.say(f"  {len(got)} covered subjects, {same:.0%} of decisions as by plain arithmetic")

    def withdraw(self) -> None:
        """Patients withdraw; one of them while a job runs. What begins afterwards is without them."""
        leaving = [wish for wish in self.wishes[0] if wish.kind == "purpose"]
        first, others = leaving[0], leaving[1:6]
        job = self._submit("mlp")
        self._await_running(job)
        self.crowd.client(first).withdraw(first.consents[0])
        first.kind = "withdrawn"
        status = await_job(self.requester.http, job, seconds=120)
        result = open_result(self.requester.http, self.requester.identity, status)
        if first.subject.hex in {item["subject"] for item in result["predictions"]}:
            raise Differs("a patient who withdrew is in the result")
        self.report["job_after_withdrawal"] = {
            "used": status["used"], "dropped": status["dropped"],
        }  # fmt: skip
        self.say(f"  the running job dropped {status['dropped']}, used {status['used']}")
        seen = self.crowd.client(first).consent(first.consents[0])
        if seen["status"] != "inactive":
            raise Differs("the patient is not told that the consent has ended")
        times = [self._denied_after(wish) for wish in others]
        times.sort()
        self.report["withdrawal_to_denial_ms"] = {
            "p50": round(times[len(times) // 2], 1),
            "p99": round(times[-1], 1),
            "trials": len(times),
        }
        self.say(
            f"  from withdrawing to a ruling without them: {times[len(times) // 2]:.0f} ms "
            f"(median of {len(times)})"
        )

    def history(self) -> None:
        """A patient sees every use of their data, and every refusal, with the leaf that proves it."""
        wish = next(wish for wish in self.wishes[0] if wish.kind == "purpose")
        history = self.crowd.client(wish).history()
        kinds = Counter(item["kind"] for item in history)
        if not {"release", "query", "plain-inference"} <= set(kinds):
            raise Differs("a use is missing from the patient's history")
        self.report["history"] = dict(sorted(kinds.items()))
        self.say(f"  one patient sees {len(history)} decisions about their data: {_listed(kinds)}")

    # What the journeys share ---------------------------------------------------------------

    def _sign(self, wishes: Sequence[Wish]) -> None:
        self.crowd.enrol_and_sign(
            wishes,
            partner=self.requester.org,
            expire_seconds=EXPIRE_SECONDS,
            done=lambda _count: None,
        )

    def _expire(self) -> None:
        """Wait until the consents that end soon have ended."""
        ends = [wish.ends for group in self.wishes for wish in group if wish.ends is not None]
        left = max(ends, default=0) - time.time()
        if left > -1:
            time.sleep(left + 1)

    def _covered(self, requester: Hospital, purpose: str) -> set[str]:
        now = time.time()
        return {
            wish.subject.hex
            for wish in self.wishes[0]
            if wish.allows(requester.org, self.requester.org, purpose, now)
        }

    def _by_subject(self) -> dict[str, Person]:
        return {
            wish.subject.hex: person
            for group, people in zip(self.wishes, self.people, strict=True)
            for wish, person in zip(group, people, strict=True)
        }

    def _withheld(self, release: str) -> dict[str, int]:
        """Reasons by count, as the publishing hospital may see them."""
        reasons: dict[str, int] = self.publisher.http.get(f"/v1/requests/{release}/withheld")[
            "reasons"
        ]
        return reasons

    def _register(self, owner: Hospital, name: str, model: ModelFile) -> None:
        document = {
            "kind": MODEL_KIND,
            "org": owner.org.hex,
            "card": model.card.to_value(),
            "digest": to_hex(model.card.digest),
        }
        signature = sign_document(
            owner.identity.signing, MODEL_KIND, document, owner.identity.pins().domain
        )
        owner.http.post(
            "/v1/models",
            {
                "model": document,
                "weights": base64.b64encode(model.data).decode(),
                "signature": to_hex(signature),
            },
        )
        self.models[name] = model

    def _submit(self, model: str) -> str:
        found = self.requester.http.get(f"/v1/datasets/{self.datasets['table']}")
        document = job_document(
            self.requester.identity,
            job="plain-inference",
            dataset=found["dataset"],
            version=found["version"],
            purpose=RESEARCH,
            categories=found["categories"],
            action="use",
            model=to_hex(self.models[model].card.digest),
            parameters={"want": "rows"},
        )
        job: str = self.requester.http.post("/v1/jobs", document)["job"]
        return job

    def _infer(self, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
        job = self._submit(model)
        status = await_job(self.requester.http, job, seconds=120)
        if status["status"] != "done":
            raise Differs(f"the job is {status['status']}: {status['detail']}")
        return open_result(self.requester.http, self.requester.identity, status), status

    def _await_running(self, job: str) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.requester.http.get(f"/v1/jobs/{job}")["status"] != "queued":
                return
            time.sleep(0.01)
        raise Differs("the job does not start")

    def _denied_after(self, wish: Wish) -> float:
        """Milliseconds from the moment of withdrawing to a ruling that leaves the patient out."""
        patient = self.crowd.client(wish)
        began = time.perf_counter()
        patient.withdraw(wish.consents[0])
        wish.kind = "withdrawn"
        answer = ask(
            self.requester.http,
            self.requester.identity,
            dataset=self.datasets["notes"],
            version=None,
            purpose=RESEARCH,
        )
        took = (time.perf_counter() - began) * 1000
        if answer["permitted"] != len(self._covered(self.requester, RESEARCH)):
            raise Differs("a patient who withdrew is still permitted")
        return took

    def _chain(self) -> dict[str, Any]:
        deployment = self.world.stack.deployment
        if deployment is None:
            raise Differs("there is no deployment")
        auditor = self.world.auditor_client()
        try:
            latest = auditor.get("/v1/checkpoints/latest")
        finally:
            auditor.close()
        return {
            "id": deployment.chain_id,
            "contracts": deployment.addresses,
            "log_size": latest["size"],
            "anchored_block": latest["block"],
        }

    @contextmanager
    def _timed(self, what: str, name: str) -> Iterator[None]:
        self.say(f"{what} …")
        began = time.perf_counter()
        yield
        self.report["seconds"][name] = round(time.perf_counter() - began, 2)


def _clear(model: ModelFile, values: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Scores and decisions by plain numpy arithmetic, beside whatever the exchange did."""
    loaded = load_pinned(model, model.card.digest)
    hidden = np.asarray(values, dtype=np.float64)
    for index, layer in enumerate(loaded.layers):
        hidden = hidden @ layer.weight.T + layer.bias
        if index < len(loaded.layers) - 1:
            hidden = np.maximum(hidden, 0.0)
    return np.ravel(scores(model.card, hidden)), np.asarray(decisions(model.card, hidden))


def _listed(items: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(items.items()))


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write the report as JSON."""
    path.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")


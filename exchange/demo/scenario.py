"""The scenario of ``make demo``, also run by the end-to-end tests (over HTTP, on real processes).

Each journey is one method, timed; each compares what happened with what the patients' wishes say. A
difference raises :class:`Differs`: the demonstration fails rather than report it.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

from exchange.demo.auditing import audit, forge
from exchange.demo.modelling import await_running, encrypted, plain, submit
from exchange.demo.people import RESEARCH, Wish, counts, deal
from exchange.demo.stage import Differs, Stage, listed, whole
from exchange.hospital.asking import await_job, open_result, run_query
from exchange.hospital.publishing import publish_file
from exchange.hospital.receiving import receive_release
from exchange.hospital.request import ask

_RECORDED_SECONDS = 60.0


class Scenario(Stage):
    """Runs the journeys in order and gathers the report."""

    def run(self) -> dict[str, Any]:
        """All journeys; the report.

        Raises:
            Differs: something that must hold does not.
        """
        with self.timed("enrol and sign", "enrol"):
            self.enrol()
        with self.timed("publish notes, FHIR and a table", "publish"):
            self.publish()
        with self.timed("find, ask, receive", "release"):
            self.release()
        with self.timed("query", "query"):
            self.query()
        with self.timed("inference on ciphertext", "encrypted"):
            encrypted(self)
        self.torch()
        with self.timed("a torch model on covered records", "plain"):
            plain(self)
        with self.timed("withdraw while a job runs", "withdraw"):
            self.withdraw()
        with self.timed("an auditor verifies", "audit"):
            self.report |= audit(self)
        with self.timed("an operator forges", "forge"):
            self.report |= forge(self)
        with self.timed("a patient looks", "history"):
            self.history()
        self.report["chain"] = self._chain()
        self.crowd.close()
        return self.report

    def fill(self) -> None:
        """As far as a first look needs: patients, consents, datasets, and one release.

        Raises:
            Differs: something that must hold does not.
        """
        with self.timed("enrol and sign", "enrol"):
            self.enrol()
        with self.timed("publish notes, FHIR and a table", "publish"):
            self.publish()
        with self.timed("find, ask, receive", "release"):
            self.release()
        with self.timed("query", "query"):
            self.query()
        self.crowd.close()

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
        self.sign([first])
        self.crowd.await_recorded([first], seconds=_RECORDED_SECONDS)
        self.report["seconds_to_first_grant"] = round(time.time() - self.began, 2)
        self.say(
            f"  first grant recorded {self.report['seconds_to_first_grant']} s after the start"
        )
        everybody = [wish for group in self.wishes for wish in group]
        self.sign([wish for wish in everybody if wish is not first])
        self.crowd.await_recorded(everybody, seconds=_RECORDED_SECONDS)
        self.report["patients"] = len(everybody)
        self.report["wishes"] = counts(everybody)
        self.say(f"  {len(everybody)} patients signed: {listed(counts(everybody))}")

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
            self.say(
                f"  {form}: {done['records']} records of {done['subjects']} subjects published"
            )

    def release(self) -> None:
        """B finds, asks with a purpose, and opens exactly the consenting patients' records."""
        kind = "notes" if self.main == "notes" else "fhir"
        found = self.requester.http.get("/v1/datasets", kind=kind)["items"]
        if self.datasets[self.main] not in {item["dataset"] for item in found}:
            raise Differs("the catalogue does not find what was published")
        self.expire()
        answer = ask(
            self.requester.http,
            self.requester.identity,
            dataset=self.datasets[self.main],
            version=None,
            purpose=RESEARCH,
        )
        self.releases.append(answer["release"])
        got = receive_release(
            self.requester.home, answer["release"], self.world.folder / "received"
        )
        expected = self.covered(self.requester, RESEARCH)
        if set(got["subjects"]) != expected:
            raise Differs(f"{len(got['subjects'])} subjects came, {len(expected)} consented")
        withheld = self.withheld(answer["release"])
        self.report["released"] = {"subjects": len(expected), "records": got["records"]}
        self.report["withheld"] = withheld
        self.say(f"  released {got['records']} records of {len(expected)} subjects")
        self.say(f"  withheld {sum(withheld.values())} subjects: {listed(withheld)}")
        denied = ask(
            self.requester.http,
            self.requester.identity,
            dataset=self.datasets[self.main],
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
        covered = self.covered(self.requester, RESEARCH, self.table_group)
        place = self.features.index(self.measured)
        values = {who: row[place] for who, row in self.values().items() if who in covered}
        ordered = sorted(
            (value for value in values.values() if not math.isnan(value)), reverse=True
        )
        # Half of them are above the median; the fifth highest value leaves five or a few more.
        middle, rare = ordered[len(ordered) // 2], ordered[4]
        high = {who for who, value in values.items() if value >= middle}
        asked = f"{self.measured} >= {middle}"
        counted = run_query(home, table, purpose=RESEARCH, where=[asked], columns=[])
        if counted["subjects"] != (len(high) if len(high) >= 11 else None):
            raise Differs("the count is not that of the covered patients")
        few = run_query(
            home, table, purpose=RESEARCH, where=[f"{self.measured} >= {rare}"], columns=[]
        )
        if sum(value >= rare for value in values.values()) < 11 and few["subjects"] is not None:
            raise Differs("a count below eleven was shown")
        rows = run_query(home, table, purpose=RESEARCH, where=[asked], columns=[self.measured])
        if {row[0] for row in rows["rows"]} != high:
            raise Differs("the rows are not those of the covered patients")
        coded = run_query(
            home,
            self.datasets["fhir"],
            purpose=RESEARCH,
            where=["resourceType = Condition"],
            columns=["code.coding.code"],
        )
        if not {row[0] for row in coded["rows"]} <= self.covered(self.requester, RESEARCH):
            raise Differs("conditions of patients who are not covered")
        self.report["query"] = {
            "count": counted["subjects"],
            "small_count": few["subjects"],
            "rows": len(rows["rows"]),
            "fhir_rows": len(coded["rows"]),
        }
        small = "hidden, fewer than 11" if few["subjects"] is None else few["subjects"]
        self.say(
            f"  {counted['subjects']} subjects with {asked}, {len(rows['rows'])} rows; "
            f"{self.measured} >= {rare}: {small}"
        )

    def withdraw(self) -> None:
        """Patients withdraw; one of them while a job runs. What begins afterwards is without them."""
        known = self.values()
        first = next(
            wish
            for wish in self.wishes[self.table_group]
            if wish.kind == "purpose" and whole(known.get(wish.subject.hex))
        )
        leaving = [wish for wish in self.holding() if wish.kind == "purpose" and wish is not first]
        # Two stay, so that a release is left to look at.
        others = leaving[:-2][:20]
        job = submit(self, "mlp")
        await_running(self, job)
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
        wish = next(wish for wish in self.holding() if wish.kind == "purpose")
        history = self.crowd.client(wish).history()
        kinds = Counter(item["kind"] for item in history)
        if not {"release", "query"} <= set(kinds):
            raise Differs("a use is missing from the patient's history")
        self.report["history"] = dict(sorted(kinds.items()))
        self.say(f"  one patient sees {len(history)} decisions about their data: {listed(kinds)}")

    def _denied_after(self, wish: Wish) -> float:
        """Milliseconds from the moment of withdrawing to a ruling that leaves the patient out."""
        patient = self.crowd.client(wish)
        began = time.perf_counter()
        patient.withdraw(wish.consents[0])
        wish.kind = "withdrawn"
        answer = ask(
            self.requester.http,
            self.requester.identity,
            dataset=self.datasets[self.main],
            version=None,
            purpose=RESEARCH,
        )
        took = (time.perf_counter() - began) * 1000
        if answer["permitted"] != len(self.covered(self.requester, RESEARCH)):
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


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write the report as JSON."""
    path.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")

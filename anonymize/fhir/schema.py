"""FHIR R4 (4.0.1): the elements that may leave, and the type by which each is treated.

Default deny: an element that is not listed here does not leave, nor does any primitive extension.
Listed are the resources of the US Core Data for Interoperability and what refers to them. Element
types are those of hl7.org/fhir/R4; `text` is a string or markdown that is run through the note
engine, `kept` a code of a required binding. `x[a|b]` is a choice of types.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_CHOICES = {
    "value": "Quantity CodeableConcept string boolean integer Range Ratio SampledData time dateTime Period",
    "effective": "dateTime Period Timing instant",
    "onset": "dateTime Age Period Range string",
    "abatement": "dateTime Age Period Range string",
    "performed": "dateTime Period string Age Range",
    "occurrence": "dateTime string Period Timing",
    "medication": "CodeableConcept Reference",
    "deceased": "boolean dateTime",
    "multipleBirth": "boolean integer",
    "reported": "boolean Reference",
    "asNeeded": "boolean CodeableConcept",
    "dose": "Range Quantity",
    "rate": "Ratio Range Quantity",
    "bounds": "Duration Range Period",
    "scheduled": "Timing Period string",
    "product": "CodeableConcept Reference",
    "serviced": "date Period",
    "diagnosis": "CodeableConcept Reference",
    "location": "CodeableConcept Reference",
    "item": "CodeableConcept Reference",
    "procedure": "CodeableConcept Reference",
    "amount": "Quantity Money",
    "doseNumber": "positiveInt string",
    "seriesDoses": "positiveInt string",
    "allowed": "Money",
    "used": "Money",
    "statusReason": "CodeableConcept Reference",
    "quantity": "Quantity",
}
_LEAF = {
    "string": "text",
    "markdown": "text",
    "boolean": "boolean",
    "integer": "number",
    "decimal": "number",
    "positiveInt": "number",
    "unsignedInt": "number",
    "dateTime": "date",
    "instant": "date",
    "date": "date",
    "Age": "Age",
    "Duration": "Quantity",
    "Money": "Money",
}
_COMMON = "id:id meta:Meta language:kept implicitRules:drop contained:resource extension:Extension identifier:Identifier"

# Data types ("Quantity"), resources ("Patient") and their inner structures ("Patient.contact").
_TABLES: dict[str, str] = {
    "Meta": "profile:canonical lastUpdated:date security:Coding tag:Coding",
    "CodeableConcept": "coding:Coding text:concept",
    "Quantity": "value:number comparator:comparator unit:unit system:canonical code:unit",
    "Money": "value:number currency:kept",
    "Range": "low:Quantity high:Quantity",
    "Ratio": "numerator:Quantity denominator:Quantity",
    "Period": "start:date end:date",
    "SampledData": "origin:Quantity period:number factor:number lowerLimit:number upperLimit:number dimensions:number data:samples",
    "Annotation": "time:date text:text",
    "Timing": "event:date repeat:Timing.repeat code:CodeableConcept",
    "Timing.repeat": "bounds[x] count:number countMax:number duration:number durationMax:number durationUnit:kept frequency:number frequencyMax:number period:number periodMax:number periodUnit:kept dayOfWeek:kept timeOfDay:time when:kept offset:number",
    "Dosage": "sequence:number text:text additionalInstruction:CodeableConcept patientInstruction:text timing:Timing asNeeded[x] site:CodeableConcept route:CodeableConcept method:CodeableConcept doseAndRate:Dosage.doseAndRate maxDosePerPeriod:Ratio maxDosePerAdministration:Quantity maxDosePerLifetime:Quantity",
    "Dosage.doseAndRate": "type:CodeableConcept dose[x] rate[x]",
    "Patient": "active:boolean name:HumanName telecom:ContactPoint gender:kept birthDate:birthDate deceased[x] address:Address maritalStatus:CodeableConcept multipleBirth[x] contact:Patient.contact communication:Patient.communication generalPractitioner:Reference managingOrganization:Reference link:Patient.link",
    "Patient.contact": "relationship:CodeableConcept gender:kept",
    "Patient.communication": "language:CodeableConcept preferred:boolean",
    "Patient.link": "other:Reference type:kept",
    "Practitioner": "active:boolean name:HumanName telecom:ContactPoint address:Address gender:kept qualification:Practitioner.qualification",
    "Practitioner.qualification": "code:CodeableConcept",
    "PractitionerRole": "active:boolean practitioner:Reference organization:Reference code:CodeableConcept specialty:CodeableConcept location:Reference telecom:ContactPoint",
    "RelatedPerson": "active:boolean patient:Reference relationship:CodeableConcept name:HumanName telecom:ContactPoint gender:kept birthDate:birthDate address:Address",
    "Organization": "active:boolean type:CodeableConcept name:facility telecom:ContactPoint address:Address partOf:Reference",
    "Location": "status:kept name:facility mode:kept type:CodeableConcept telecom:ContactPoint address:Address physicalType:CodeableConcept managingOrganization:Reference",
    "Encounter": "status:kept class:Coding type:CodeableConcept serviceType:CodeableConcept priority:CodeableConcept subject:Reference participant:Encounter.participant period:Period length:Quantity reasonCode:CodeableConcept reasonReference:Reference diagnosis:Encounter.diagnosis hospitalization:Encounter.hospitalization location:Encounter.location serviceProvider:Reference partOf:Reference",
    "Encounter.participant": "type:CodeableConcept period:Period individual:Reference",
    "Encounter.diagnosis": "condition:Reference use:CodeableConcept rank:number",
    "Encounter.hospitalization": "admitSource:CodeableConcept reAdmission:CodeableConcept dietPreference:CodeableConcept dischargeDisposition:CodeableConcept",
    "Encounter.location": "location:Reference status:kept period:Period",
    "Condition": "clinicalStatus:CodeableConcept verificationStatus:CodeableConcept category:CodeableConcept severity:CodeableConcept code:CodeableConcept bodySite:CodeableConcept subject:Reference encounter:Reference onset[x] abatement[x] recordedDate:date recorder:Reference asserter:Reference stage:Condition.stage evidence:Condition.evidence note:Annotation",
    "Condition.stage": "summary:CodeableConcept assessment:Reference type:CodeableConcept",
    "Condition.evidence": "code:CodeableConcept detail:Reference",
    "Observation": "basedOn:Reference partOf:Reference status:kept category:CodeableConcept code:CodeableConcept subject:Reference focus:Reference encounter:Reference effective[x] issued:date performer:Reference value[x] dataAbsentReason:CodeableConcept interpretation:CodeableConcept note:Annotation bodySite:CodeableConcept method:CodeableConcept specimen:Reference device:Reference referenceRange:Observation.referenceRange hasMember:Reference derivedFrom:Reference component:Observation.component",
    "Observation.referenceRange": "low:Quantity high:Quantity type:CodeableConcept appliesTo:CodeableConcept age:Range text:text",
    "Observation.component": "code:CodeableConcept value[x] dataAbsentReason:CodeableConcept interpretation:CodeableConcept referenceRange:Observation.referenceRange",
    "DiagnosticReport": "basedOn:Reference status:kept category:CodeableConcept code:CodeableConcept subject:Reference encounter:Reference effective[x] issued:date performer:Reference resultsInterpreter:Reference specimen:Reference result:Reference imagingStudy:Reference conclusion:text conclusionCode:CodeableConcept presentedForm:Attachment",
    "DocumentReference": "masterIdentifier:Identifier status:kept docStatus:kept type:CodeableConcept category:CodeableConcept subject:Reference date:date author:Reference authenticator:Reference custodian:Reference relatesTo:DocumentReference.relatesTo description:text securityLabel:CodeableConcept content:DocumentReference.content context:DocumentReference.context",
    "DocumentReference.relatesTo": "code:kept target:Reference",
    "DocumentReference.content": "attachment:Attachment format:Coding",
    "DocumentReference.context": "encounter:Reference event:CodeableConcept period:Period facilityType:CodeableConcept practiceSetting:CodeableConcept sourcePatientInfo:Reference related:Reference",
    "MedicationRequest": "status:kept statusReason:CodeableConcept intent:kept category:CodeableConcept priority:kept doNotPerform:boolean reported[x] medication[x] subject:Reference encounter:Reference authoredOn:date requester:Reference performer:Reference performerType:CodeableConcept recorder:Reference reasonCode:CodeableConcept reasonReference:Reference basedOn:Reference courseOfTherapyType:CodeableConcept note:Annotation dosageInstruction:Dosage dispenseRequest:MedicationRequest.dispenseRequest substitution:MedicationRequest.substitution priorPrescription:Reference",
    "MedicationRequest.dispenseRequest": "dispenseInterval:Quantity validityPeriod:Period numberOfRepeatsAllowed:number quantity:Quantity expectedSupplyDuration:Quantity",
    "MedicationRequest.substitution": "allowed:boolean reason:CodeableConcept",
    "Medication": "code:CodeableConcept status:kept form:CodeableConcept amount:Ratio ingredient:Medication.ingredient",
    "Medication.ingredient": "item[x] isActive:boolean strength:Ratio",
    "MedicationStatement": "status:kept category:CodeableConcept medication[x] subject:Reference context:Reference effective[x] dateAsserted:date reasonCode:CodeableConcept reasonReference:Reference note:Annotation dosage:Dosage",
    "MedicationAdministration": "status:kept category:CodeableConcept medication[x] subject:Reference context:Reference effective[x] reasonCode:CodeableConcept reasonReference:Reference request:Reference note:Annotation dosage:MedicationAdministration.dosage",
    "MedicationAdministration.dosage": "text:text site:CodeableConcept route:CodeableConcept method:CodeableConcept dose:Quantity rate[x]",
    "Procedure": "basedOn:Reference partOf:Reference status:kept statusReason:CodeableConcept category:CodeableConcept code:CodeableConcept subject:Reference encounter:Reference performed[x] recorder:Reference asserter:Reference performer:Procedure.performer location:Reference reasonCode:CodeableConcept reasonReference:Reference bodySite:CodeableConcept outcome:CodeableConcept report:Reference complication:CodeableConcept followUp:CodeableConcept note:Annotation usedReference:Reference usedCode:CodeableConcept",
    "Procedure.performer": "function:CodeableConcept actor:Reference",
    "AllergyIntolerance": "clinicalStatus:CodeableConcept verificationStatus:CodeableConcept type:kept category:kept criticality:kept code:CodeableConcept patient:Reference encounter:Reference onset[x] recordedDate:date recorder:Reference asserter:Reference lastOccurrence:date note:Annotation reaction:AllergyIntolerance.reaction",
    "AllergyIntolerance.reaction": "substance:CodeableConcept manifestation:CodeableConcept description:text onset:date severity:kept exposureRoute:CodeableConcept note:Annotation",
    "Immunization": "status:kept statusReason:CodeableConcept vaccineCode:CodeableConcept patient:Reference encounter:Reference occurrence[x] recorded:date primarySource:boolean location:Reference lotNumber:device expirationDate:date site:CodeableConcept route:CodeableConcept doseQuantity:Quantity performer:Procedure.performer note:Annotation reasonCode:CodeableConcept reasonReference:Reference isSubpotent:boolean protocolApplied:Immunization.protocolApplied",
    "Immunization.protocolApplied": "targetDisease:CodeableConcept doseNumber[x] seriesDoses[x]",
    "CarePlan": "status:kept intent:kept category:CodeableConcept title:text description:text subject:Reference encounter:Reference period:Period created:date author:Reference careTeam:Reference addresses:Reference goal:Reference activity:CarePlan.activity note:Annotation",
    "CarePlan.activity": "outcomeCodeableConcept:CodeableConcept progress:Annotation reference:Reference detail:CarePlan.activity.detail",
    "CarePlan.activity.detail": "kind:kept code:CodeableConcept reasonCode:CodeableConcept status:kept scheduled[x] location:Reference performer:Reference description:text",
    "CareTeam": "status:kept category:CodeableConcept subject:Reference encounter:Reference period:Period participant:CareTeam.participant reasonCode:CodeableConcept managingOrganization:Reference note:Annotation",
    "CareTeam.participant": "role:CodeableConcept member:Reference period:Period",
    "Goal": "lifecycleStatus:kept achievementStatus:CodeableConcept category:CodeableConcept priority:CodeableConcept description:CodeableConcept subject:Reference addresses:Reference note:Annotation",
    "ServiceRequest": "basedOn:Reference status:kept intent:kept category:CodeableConcept priority:kept code:CodeableConcept subject:Reference encounter:Reference occurrence[x] authoredOn:date requester:Reference performer:Reference reasonCode:CodeableConcept reasonReference:Reference bodySite:CodeableConcept note:Annotation",
    "Specimen": "status:kept type:CodeableConcept subject:Reference receivedTime:date parent:Reference request:Reference collection:Specimen.collection note:Annotation",
    "Specimen.collection": "collectedDateTime:date collectedPeriod:Period quantity:Quantity method:CodeableConcept bodySite:CodeableConcept",
    "Device": "status:kept manufactureDate:date expirationDate:date lotNumber:device serialNumber:device distinctIdentifier:device type:CodeableConcept patient:Reference deviceName:Device.deviceName",
    "Device.deviceName": "name:text type:kept",
    "ImagingStudy": "status:kept modality:Coding subject:Reference encounter:Reference started:date basedOn:Reference referrer:Reference numberOfSeries:number numberOfInstances:number procedureCode:CodeableConcept reasonCode:CodeableConcept reasonReference:Reference note:Annotation description:text series:ImagingStudy.series",
    "ImagingStudy.series": "uid:oid number:number modality:Coding description:text numberOfInstances:number bodySite:Coding laterality:Coding started:date instance:ImagingStudy.series.instance",
    "ImagingStudy.series.instance": "uid:oid sopClass:Coding number:number title:text",
    "FamilyMemberHistory": "status:kept patient:Reference date:date relationship:CodeableConcept sex:CodeableConcept condition:FamilyMemberHistory.condition note:Annotation",
    "FamilyMemberHistory.condition": "code:CodeableConcept outcome:CodeableConcept contributedToDeath:boolean onset[x]",
    "Coverage": "status:kept type:CodeableConcept beneficiary:Reference relationship:CodeableConcept period:Period payor:Reference",
    "Claim": "status:kept type:CodeableConcept use:kept patient:Reference billablePeriod:Period created:date provider:Reference priority:CodeableConcept prescription:Reference diagnosis:Claim.diagnosis procedure:Claim.procedure item:Claim.item total:Money",
    "Claim.diagnosis": "sequence:number diagnosis[x]",
    "Claim.procedure": "sequence:number procedure[x]",
    "Claim.item": "sequence:number diagnosisSequence:number procedureSequence:number informationSequence:number productOrService:CodeableConcept serviced[x] location[x] quantity:Quantity net:Money encounter:Reference",
    "ExplanationOfBenefit": "status:kept type:CodeableConcept use:kept patient:Reference billablePeriod:Period created:date provider:Reference outcome:kept claim:Reference referral:Reference diagnosis:Claim.diagnosis item:Claim.item payment:ExplanationOfBenefit.payment",
    "ExplanationOfBenefit.payment": "amount:Money",
    "Bundle": "type:kept timestamp:date total:number entry:Bundle.entry",
    "Bundle.entry": "fullUrl:fullUrl resource:resource search:Bundle.entry.search request:Bundle.entry.request",
    "Bundle.entry.search": "mode:kept score:number",
    "Bundle.entry.request": "method:kept url:requestUrl",
}

CUSTOM = frozenset(
    "Coding Identifier Reference HumanName Address ContactPoint Attachment Extension resource Age".split()
)
"""Types that `walk` treats by hand, since what may stay depends on their contents."""

# Codings and identifiers of these systems are public terminologies; their codes identify nobody.
PUBLIC_SYSTEMS = (
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
    "http://unitsofmeasure.org",
    "http://hl7.org/fhir/",
    "http://terminology.hl7.org/",
    "http://www.cms.gov/",
    "http://www.ama-assn.org/go/cpt",
    "http://nucc.org/provider-taxonomy",
    "http://dicom.nema.org/",
    "http://www.whocc.no/atc",
    "http://www.genenames.org",
    "http://fdasis.nlm.nih.gov",
    "https://bluebutton.cms.gov/",
    "http://standardhealthrecord.org/fhir/",
    "urn:ietf:bcp:47",
    "urn:ietf:rfc:3986",
    "urn:iso:std:iso:",
    "urn:oid:2.16.840.1.113883.",
    "urn:oid:1.2.840.10008.",
)

KEPT_EXTENSIONS = frozenset(
    "http://hl7.org/fhir/us/core/StructureDefinition/" + name
    for name in ("us-core-race", "us-core-ethnicity", "us-core-birthsex", "us-core-sex")
)


def _expand(name: str, table: str) -> dict[str, str]:
    out: dict[str, str] = {}
    if name[0].isupper() and "." not in name and name in RESOURCES:
        table = f"{_COMMON} {table}"
    for entry in table.split():
        element, colon, kind = entry.partition(":")
        if colon:
            out[element] = kind
            continue
        element = element.removesuffix("[x]")
        for choice in _CHOICES[element].split():
            out[element + choice[0].upper() + choice[1:]] = _LEAF.get(choice, choice)
    return out


_DATATYPES = frozenset(
    "Meta CodeableConcept Quantity Money Range Ratio Period SampledData Annotation Timing Dosage".split()
)
RESOURCES = frozenset(n for n in _TABLES if "." not in n and n not in _DATATYPES)
SCHEMA: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {name: MappingProxyType(_expand(name, table)) for name, table in _TABLES.items()}
)

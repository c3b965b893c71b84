"""What an auditor is handed: evidence for one access, and its rendering as FHIR AuditEvents."""

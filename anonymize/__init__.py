"""Who must not be recognised.

What enters: a hospital's own records (notes, FHIR R4 resources, table rows), the patient's own
structured record and the hospital's de-identification key. What leaves: de-identified records and
a report of counts. What never leaves: a snippet, a name, a key, a map from pseudonym to person.
No module here opens a socket.

Map: `deidentify` is the one door (`Deidentifier`, `Inspector`); `record` and `context` are what
callers hand in; `profile` says which identifier gets which treatment, `keys` and `operators`
apply it, `shifting` moves dates; `engine` puts Presidio in charge of `recognizers/` (one file, one
family of formats); `text`, `fhir/` and `table` know where identifiers live in each kind of record;
`report` counts.
"""

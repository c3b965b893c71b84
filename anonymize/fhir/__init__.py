"""FHIR R4: `schema` says what each element is, `walk` treats it. What `schema` omits is dropped."""

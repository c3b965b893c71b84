"""The rows: what must not be lost.

Enters: signed documents, leaves, promises, the catalogue. Never enters: plaintext of a record, a
key that opens one, a patient's code. Who edits this store can refuse service or hide a dataset, and
a changed ruling is noticed; who loses it loses the salts, and with them the evidence.

Map: ``schema`` the tables; ``database`` opening, writing and reading; ``migrate`` bringing a
database up to date; ``consents`` rows of consents as values, and the other table groups beside it.
"""

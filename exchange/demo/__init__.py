"""The demonstration: generated (or real) patients, the whole scenario over HTTP, a report.

Everything it says it measured or read from the exchange; what should happen is worked out beside it, from
what each patient was told to sign, and compared.
"""

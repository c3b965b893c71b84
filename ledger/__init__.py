"""The words, the rules, the record and the proof of consent.

What enters: consent documents, signed messages, the chain's events. What never enters: records of
patients, data keys, HTTP, databases. This package imports no other package of the project, so an
auditor can install it alone and verify a past decision offline.

Map: ``ids``, ``datause``, ``consent`` are the words; ``policy`` the only rules; ``commitment``,
``messages``, ``terms``, ``signing``, ``leaf``, ``history`` and ``merkle`` the record; ``bundle``,
``trust``, ``evidence``, ``delivery`` and ``verify`` the proof, ``vectors`` what other
implementations must meet; ``interface``, ``memory``, ``chain`` and their neighbours the chain;
``errors`` every way in which it cannot answer.
"""

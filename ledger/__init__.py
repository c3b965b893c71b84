"""The words, the rules, the record and the proof of consent.

What enters: consent documents, signed messages, the chain's events. What never enters: records of
patients, data keys, HTTP, databases. This package imports no other package of the project, so an
auditor can install it alone and verify a past decision offline.

Map: ``ids``, ``datause``, ``consent`` are the words; ``policy`` the only rules; ``commitment``,
``signing``, ``leaf``, ``merkle`` and ``history`` the record; ``bundle`` and ``verify`` the proof;
``interface``, ``memory``, ``chain``, ``follow``, ``node``, ``abi`` and ``build`` the chain;
``errors`` every way in which it cannot answer.
"""

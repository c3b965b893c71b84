"""The house with doors: HTTP, catalogue, storage, keys, worker and pages.

What enters: signed documents, sealed bytes, questions. What never enters the api, the logs or the
store: plaintext of a record, a patient's code or key. Every access passes one door, ``gate``, and
leaves a leaf in ``log`` before anything leaves the house.

Map: ``settings`` reads the environment; ``store`` keeps rows; ``log`` is the Merkle log; ``gate``
rules and admits; ``outbox`` keeps promises to the chain; ``vault`` and ``sealing`` hold sealed
bytes; ``api``, ``keys`` and ``worker`` are processes; ``hospital`` and ``patient`` are clients.
"""

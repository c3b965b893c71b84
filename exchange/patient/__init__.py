"""The patient's own side: a seed, signatures, and a plain client of the public API.

What never leaves: the seed, the code, the single-use consent keys (erased once they have signed), the
withdrawals of objections. ``signing`` makes signatures, ``client`` talks HTTP, ``keep`` holds the state
file, ``cli`` is ``assent patient …``.
"""

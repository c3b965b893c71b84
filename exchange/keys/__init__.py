"""The process that holds keys, and does not trust the process that talks HTTP (decision D5).

What enters: the questions of api and worker, over a Unix socket of this user alone, and the
exchange's store, read-only. What never leaves: a private key, a key-encryption key, or a data key
that no ruling and no verified signature lets out.

Map: ``process`` is the socket server and its verbs, ``client`` the other end, ``wire`` the frames
between them; ``database`` is this process's own memory, ``rootkey`` its secrets at rest, ``ring``
the wrapped data keys, ``pins`` whom it believes; ``evidence`` verifies what patients and hospitals
signed, ``checks`` what every opening demands; ``opening`` lets keys out for releases, ``lending``
for intakes and jobs; ``vouching`` signs receipts and checkpoints.
"""

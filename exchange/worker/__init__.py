"""The worker: keeps promises to the chain, inspects what was published, runs jobs.

What enters: ciphertext, sealed keys, signed job documents. What leaves: verdicts in counts, results
sealed to their requester, leaves. Plaintext exists only in a child process for the length of one
inspection or one job; the child has no network, no database and no chain (decision D5).

==============  ==============================================================
``process``     the process: its loops, its start, its end
``chain_side``  outbox to chain, chain to projection, checkpoints to the anchor
``intake``      one received dataset version: inspect, publish or refuse
``execution``   one job, durable on DBOS
``sandbox``     the parent's half of a child: start, feed, answer, stop
``frames``      what runs through the pipes between them
``confine``     what the child gives up before it reads anything
``child``       the child's half
``tasks``       what a child does: inspect, query, compute
==============  ==============================================================
"""

"""The worker: keeps promises to the chain, inspects what was published, runs jobs.

What enters: ciphertext, sealed keys, signed job documents. What leaves: verdicts in counts, results
sealed to their requester, leaves. Plaintext exists only in a child process for the length of one
inspection or one job; the child has no network, no database and no chain (decision D5).

==============  ==============================================================
``process``     the process: its loops, its start, its end
``chain_side``  outbox to chain, chain to projection, checkpoints to the anchor
``recording``   what the chain recorded, as leaves and rows
``intake``      one received dataset version: inspect, publish or refuse
``execution``   jobs and inspections, durable on DBOS
``running``     one job: its child, its cover, its one ending
``covering``    who covers it, asked again and again
``turns``       one thing at a time for each id
``sandbox``     the parent's half of a child: start, feed, answer, stop
``frames``      what runs through the pipes between them
``confine``     what the child gives up before it reads anything
``fence``       which files it may still reach
``child``       the child's half
``refusal``     how a task says no
``tasks``       what a child does: inspect, query, compute
==============  ==============================================================
"""

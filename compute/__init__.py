"""What may be computed: on ciphertext, in the clear, and as counts.

What enters: a job's description, rows or ciphertexts, a model file pinned by its digest, and a
`Permit` of the gate. What never enters: a clock, a database, a network, a chain, or a secret CKKS
key on the computing side. What leaves has passed `guard`.

    errors      the tree of what can go wrong
    canonical   canonical JSON (RFC 8785), the form in which everything here is digested
    job         JobSpec, JobStatus, Result: pure values
    models      model cards, digest-pinned weights, safe loading
    train       small seeded fits for tabular models
    presets     the allow-list of CKKS parameters
    protobuf    a look into serialised messages before a library reads them
    wire        requests and replies on the wire: header, signature, ciphertext
    context     the key holder's half and the evaluator's half of a CKKS context
    encrypted   inference on ciphertext
    clear       inference in the clear
    score       scores and decisions of a model's outputs
    tabulate    counts and means over table rows
    guard       what may leave: cohorts, small cells, rounding, sizes
    run         the one door
    client/     what a hospital runs on its own premises: encrypt, decrypt, plan
"""

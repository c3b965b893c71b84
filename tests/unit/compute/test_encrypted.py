from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tenseal as ts

from compute import canonical as cj
from compute import clear, encrypted, evaluator, score, train, wire
from compute.client.decryption import decrypt
from compute.client.encryption import drop_slots, encrypt, make_keys
from compute.client.plan import explain_parameters
from compute.context import (
    MAX_DECRYPTIONS,
    KeyHolder,
    load_evaluator,
)
from compute.errors import (
    BudgetExhausted,
    CiphertextRefused,
    ContextRefused,
    DepthExhausted,
    InputMalformed,
    NotComputable,
)
from compute.headers import RequestHeader
from compute.models import Calibration, load
from compute.presets import LINEAR, PRESETS, SECURITY_BOUND_BITS, SQUARE, preset_for
from compute.wire import Reply, Request, header_digest, parse_reply, parse_request

WDBC = Path("../shared/data/tabular/breast_cancer_wdbc.csv")


def through(key, request, file):
    model = load(file.data, file.card)
    reply = encrypted.evaluate(request.to_bytes(), key.evaluator_bytes(), model)
    return decrypt(key, reply, request.header), clear.predict(model, np.empty((0, 5))) and model


@pytest.mark.parametrize("family", ["logistic", "svm", "square"])
def test_ciphertext_and_clear_agree(family, patients, make_request, linear_key, square_key):
    rows, labels = patients.rows, patients.labels
    features = ("age", "pressure", "glucose", "creatinine", "stays")
    key = square_key if family == "square" else linear_key
    if family == "square":
        file = train.fit_mlp(rows, labels, features=features, outputs=("l", "h"), hidden=6)
    else:
        fit = train.fit_logistic_regression if family == "logistic" else train.fit_linear_svm
        file = fit(rows, labels, features=features)
    opened, model = through(key, make_request(key, file, patients), file)
    plain = clear.predict(model, rows)
    assert np.abs(opened - plain.outputs).max() < 0.01
    assert (score.decisions(file.card, opened) == plain.decisions).all()
    assert (opened == np.round(opened, 2)).all()


@pytest.mark.data
@pytest.mark.parametrize("family", ["logistic", "svm", "square"])
def test_every_decision_agrees_on_the_breast_cancer_table(family, linear_key, square_key):
    if not WDBC.exists():
        pytest.skip("../shared/data is not here")
    table = np.genfromtxt(WDBC, delimiter=",", skip_header=1)
    columns = tuple(WDBC.read_text().splitlines()[0].split(",")[:-1])
    rows, labels = table[:, :-1], 1.0 - table[:, -1]
    key = square_key if family == "square" else linear_key
    if family == "square":
        file = train.fit_mlp(rows, labels, features=columns, outputs=("benign", "malignant"))
    else:
        fit = train.fit_logistic_regression if family == "logistic" else train.fit_linear_svm
        file = fit(rows, labels, features=columns)
    slots = [(f"0x{index:064x}", f"0x{index:064x}") for index in range(len(rows))]
    request = encrypt(
        key, rows, slots, org="0x01", columns=columns,
        model_digest=cj.to_hex(file.card.digest), calibration=file.card.calibration,
    )  # fmt: skip
    model = load(file.data, file.card)
    reply = encrypted.evaluate(request.to_bytes(), key.evaluator_bytes(), model)
    opened = decrypt(key, reply, request.header)
    plain = clear.predict(model, rows)
    assert (score.decisions(file.card, opened) == plain.decisions).all()
    assert (plain.decisions == labels).mean() > 0.95
    assert np.abs(opened - plain.outputs).max() < 0.02


def test_a_bias_alone_and_a_zero_weight_come_through(make_request, linear_key, patients):
    from compute.models import Layer, ModelCard, ModelFile, pack_weights

    data = pack_weights((Layer(np.array([[0.0, 0.0, 1.0, -0.0, 0.0]]), np.array([-7.25])),))
    features = ("age", "pressure", "glucose", "creatinine", "stays")
    card = ModelCard("bias", "1", "linear-svm", features, ("x",), cj.sha256(data))
    calibration = Calibration((60.0, 130.0, 6.0, 1.0, 2.0), (15.0, 20.0, 2.0, 1.0, 2.0))
    file = ModelFile(data, card)
    request = make_request(linear_key, file, patients, calibration=calibration)
    opened, _ = through(linear_key, request, file)
    assert np.abs(opened[:, 0] - (patients.rows[:, 2] - 7.25)).max() < 0.02


def test_results_beyond_the_modulus_are_scaled_and_not_wrapped(make_request, linear_key, patients):
    from compute.models import Layer, ModelCard, ModelFile, pack_weights

    features = ("age", "pressure", "glucose", "creatinine", "stays")
    data = pack_weights((Layer(np.array([[0.3, 0.1, 0.1, 0.1, 0.1]]), np.array([0.0])),))
    card = ModelCard("large", "1", "linear-svm", features, ("x",), cj.sha256(data))
    file = ModelFile(data, card)
    calibration = Calibration((60.0, 130.0, 6.0, 1.0, 2.0), (15.0, 20.0, 2.0, 1.0, 2.0))
    request = make_request(linear_key, file, patients, calibration=calibration)
    opened, model = through(linear_key, request, file)
    assert np.abs(opened - clear.predict(model, patients.rows).outputs).max() < 0.05
    assert opened.max() > 2.0**LINEAR.headroom_bits


def test_without_a_calibration_lost_precision_is_refused(make_request, linear_key, patients):
    features = ("age", "pressure", "glucose", "creatinine", "stays")
    file = train.fit_logistic_regression(
        patients.rows * [1, 1, 1, 1e-4, 1], patients.labels, features=features, penalty=1e-3
    )
    small = replace(patients, rows=patients.rows * [1, 1, 1, 1e-4, 1])
    request = make_request(linear_key, file, small, calibration=None)
    with pytest.raises(NotComputable):
        encrypted.evaluate(
            request.to_bytes(), linear_key.evaluator_bytes(), load(file.data, file.card)
        )


def test_too_deep_and_without_a_form_are_refused(
    make_request, linear_key, square_key, square, logistic, patients
):
    def evaluate(key, file):
        request = make_request(key, file, patients)
        encrypted.evaluate(request.to_bytes(), key.evaluator_bytes(), load(file.data, file.card))

    with pytest.raises(DepthExhausted):
        evaluate(linear_key, square)
    with pytest.raises(NotComputable):
        evaluate(square_key, logistic)
    features = ("age", "pressure", "glucose", "creatinine", "stays")
    relu = train.fit_mlp(
        patients.rows, patients.labels, features=features, outputs=("l", "h"), activation="relu"
    )
    with pytest.raises(NotComputable):
        evaluate(square_key, relu)
    with pytest.raises(DepthExhausted):
        preset_for(2)


def test_presets_stay_within_the_standard():
    for preset in PRESETS.values():
        assert sum(preset.prime_bits) <= SECURITY_BOUND_BITS[preset.degree]
        assert preset.headroom_bits > 0


# What is refused, and why.


def evaluate(data, key, file):
    return encrypted.evaluate(data, key.evaluator_bytes(), load(file.data, file.card))


def resealed(request, body=None, **changes):
    """A request whose header agrees with itself again: an attacker without the signing key."""
    body = request.body if body is None else body
    digest = cj.to_hex(cj.sha256(body))
    header = replace(request.header, body=digest, body_bytes=len(body), **changes)
    return Request(header, body).to_bytes()


def test_a_truncated_request_is_refused_wherever_it_is_cut(request_linear, linear_key, logistic):
    data = request_linear.to_bytes()
    for length in (0, 5, 13, 100, data.index(b"}") + 2, len(data) // 2, len(data) - 1):
        with pytest.raises(CiphertextRefused):
            evaluate(data[:length], linear_key, logistic)


def test_a_flipped_byte_is_refused_wherever_it_is(request_linear):
    data = request_linear.to_bytes()
    start = len(data) - len(request_linear.body)
    places = [*range(14), *range(14, start, 997), *range(start, len(data), len(data) // 50)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1
        try:
            found = parse_request(bytes(changed))
        except CiphertextRefused:
            continue
        # A header that still reads is another header: no signature over the first one fits it.
        assert found.header.digest != request_linear.header.digest


def test_a_changed_list_of_slots_is_refused_or_unsigned(request_linear):
    header = request_linear.header.to_json()
    subject = request_linear.header.slots[0][0].encode()
    other = b"0x" + b"f" * 64
    changed = header.replace(subject, other)
    with pytest.raises(CiphertextRefused, match="slots"):
        RequestHeader.from_json(changed)
    slots = (("0x" + "f" * 64, request_linear.header.slots[0][1]), *request_linear.header.slots[1:])
    assert replace(request_linear.header, slots=slots).digest != request_linear.header.digest


def test_the_signature_stands_beside_what_it_signs(request_linear):
    signed = request_linear.signed(b"s" * 64).to_bytes()
    assert parse_request(signed).signature == b"s" * 64
    assert header_digest(signed) == header_digest(request_linear.to_bytes())
    assert wire.read_header(signed) == request_linear.header
    with pytest.raises(InputMalformed):
        request_linear.signed(b"s" * 300)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"context": "0x" + "0" * 64}, "context"),
        ({"model": "0x" + "0" * 64}, "model"),
        ({"parameters": SQUARE.name}, "parameters"),
        ({"columns": ("pressure", "age", "glucose", "creatinine", "stays")}, "columns"),
    ],
)
def test_a_request_for_something_else_is_refused(
    changes, reason, request_linear, linear_key, logistic
):
    with pytest.raises(CiphertextRefused) as refused:
        evaluate(resealed(request_linear, **changes), linear_key, logistic)
    assert refused.value.reason == reason


def test_ciphertexts_of_other_parameters_are_refused(
    request_linear, make_request, square_key, square, patients, linear_key, logistic
):
    foreign = make_request(square_key, square, patients)
    with pytest.raises(CiphertextRefused) as refused:
        evaluate(resealed(request_linear, body=foreign.body), linear_key, logistic)
    assert refused.value.reason == "size"
    # Same degree and sizes, another scale: only the scale gives it away.
    other = ts.context(
        ts.SCHEME_TYPE.CKKS, 4096, coeff_mod_bit_sizes=[49, 60],
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )  # fmt: skip
    other.global_scale = 2.0**20
    body = tensor_of(other, np.ones((120, 6)))
    with pytest.raises(CiphertextRefused) as refused:
        evaluate(resealed(request_linear, body=body), linear_key, logistic)
    assert refused.value.reason == "scale"
    other = ts.context(
        ts.SCHEME_TYPE.CKKS, 4096, coeff_mod_bit_sizes=[48, 60],
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )  # fmt: skip
    other.global_scale = 2.0**21
    body = tensor_of(other, np.ones((120, 6)))
    with pytest.raises(CiphertextRefused) as refused:
        evaluate(resealed(request_linear, body=body), linear_key, logistic)
    assert refused.value.reason == "parameters"


def tensor_of(context, rows):
    plain = ts.plain_tensor(rows.ravel().tolist(), shape=list(rows.shape))
    return ts.ckks_tensor(context, plain, batch=True).reshape([1, rows.shape[1]]).serialize()


@pytest.mark.parametrize(
    ("shape", "reason"), [((120, 5), "shape"), ((120, 7), "shape"), ((119, 6), "batch")]
)
def test_another_shape_than_announced_is_refused(
    shape, reason, request_linear, linear_key, logistic
):
    body = tensor_of(linear_key.context, np.ones(shape))
    with pytest.raises(CiphertextRefused) as refused:
        evaluate(resealed(request_linear, body=body), linear_key, logistic)
    assert refused.value.reason == reason


def test_rubbish_behind_a_fitting_header_is_refused(request_linear, linear_key, logistic):
    broken = bytearray(request_linear.body)
    broken[40] ^= 0xFF
    for body in (b"\xff" * 50, b"", bytes(broken), request_linear.body[:-9]):
        with pytest.raises(CiphertextRefused):
            evaluate(resealed(request_linear, body=body), linear_key, logistic)


def test_a_context_with_a_secret_key_is_refused(linear_key, tmp_path):
    public = linear_key.evaluator_bytes()
    assert load_evaluator(public).fingerprint == linear_key.fingerprint
    assert not load_evaluator(public).context.has_secret_key()
    library = linear_key.context.serialize(
        save_public_key=False, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
    )
    head = public[: -len(library)]
    secret = linear_key.context.serialize(
        save_public_key=False, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
    )
    linear_key_file = tmp_path / "key"
    KeyHolder(LINEAR, linear_key.key_id, linear_key.context).save(linear_key_file)
    # Field 3 of the context's message with field 1 inside: a secret of two bytes.
    short = library + b"\x1a\x04\x0a\x02\x00\x01"
    for bad in (head + secret, linear_key_file.read_bytes(), head + short):
        with pytest.raises(ContextRefused) as refused:
            load_evaluator(bad)
        assert refused.value.reason == "secret-key"


def test_a_context_off_the_list_is_refused(linear_key, square_key):
    public = linear_key.evaluator_bytes()
    head, tail = public[: public.index(b"}") + 1], public[public.index(b"}") + 1 :]
    foreign = square_key.evaluator_bytes()
    foreign = foreign[foreign.index(b"}") + 1 :]
    scale = bytearray(tail)
    scale[-5] ^= 0x10
    cases = [
        (head + foreign, "parameters"),
        (head + bytes(scale), "parameters"),
        (head + tail + b"\x1a\x00", "secret-key"),
        (head + tail[:-3], "format"),
        (head + tail + b"\x20\x01", "format"),
        (head + tail + b"\x00" * 5000, "size"),
        (head.replace(b"ckks-n4096-linear/1", b"ckks-n1024-linear/1") + tail, "parameters"),
        (evaluator.MAGIC, "format"),
        (b"", "format"),
    ]
    for bad, reason in cases:
        with pytest.raises(ContextRefused) as refused:
            load_evaluator(bad)
        assert refused.value.reason == reason
    with pytest.raises(ContextRefused):
        make_keys("ckks-n1024/1")
    with pytest.raises(ContextRefused):
        make_keys(replace(LINEAR, prime_bits=(60, 60)))


def test_a_context_with_evaluation_keys_is_refused(linear_key):
    public = linear_key.evaluator_bytes()
    head = public[: public.index(b"}") + 1]
    library = ts.context(
        ts.SCHEME_TYPE.CKKS, 4096, coeff_mod_bit_sizes=[49, 60],
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )  # fmt: skip
    library.global_scale = 2.0**21
    library.auto_rescale = False
    with pytest.raises(ContextRefused):
        load_evaluator(head + library.serialize(save_secret_key=False))


# The hospital's side.


def test_a_key_file_is_private_and_comes_back(
    tmp_path, make_request, logistic, patients, linear_key
):
    path = tmp_path / "ckks.key"
    key = make_keys(LINEAR)
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    again = KeyHolder.load(path)
    assert again.fingerprint == key.fingerprint
    request = make_request(key, logistic, patients)
    opened, _ = through(again, request, logistic)
    assert len(opened) == 120
    assert KeyHolder.load(path).decryptions == 1
    assert [each.name for each in tmp_path.iterdir()] == ["ckks.key"]
    path.chmod(0o644)
    with pytest.raises(ContextRefused):
        KeyHolder.load(path)
    path.write_bytes(linear_key.evaluator_bytes())
    path.chmod(0o600)
    with pytest.raises(ContextRefused):
        KeyHolder.load(path)


def test_a_key_opens_only_so_many_replies(linear_key, request_linear, logistic):
    reply = evaluate(request_linear.to_bytes(), linear_key, logistic)
    used = KeyHolder(LINEAR, linear_key.key_id, linear_key.context, MAX_DECRYPTIONS)
    with pytest.raises(BudgetExhausted):
        decrypt(used, reply, request_linear.header)
    assert "context" not in repr(used)


def test_a_reply_is_opened_only_where_it_belongs(
    make_request, request_linear, linear_key, logistic, patients
):
    reply = evaluate(request_linear.to_bytes(), linear_key, logistic)
    with pytest.raises(CiphertextRefused) as refused:
        decrypt(make_keys(LINEAR), reply, request_linear.header)
    assert refused.value.reason == "context"
    with pytest.raises(CiphertextRefused) as refused:
        decrypt(linear_key, reply, make_request(linear_key, logistic, patients).header)
    assert refused.value.reason == "request"
    parsed = parse_reply(reply)
    swapped = Reply(replace(parsed.header, model="0x" + "0" * 64), parsed.body).to_bytes()
    with pytest.raises(CiphertextRefused) as refused:
        decrypt(linear_key, swapped, request_linear.header)
    assert refused.value.reason == "model"
    with pytest.raises(CiphertextRefused):
        decrypt(linear_key, request_linear.to_bytes(), request_linear.header)
    with pytest.raises(CiphertextRefused):
        decrypt(linear_key, reply[:-1], request_linear.header)


def test_values_that_no_computation_gives_are_refused(linear_key, request_linear, logistic):
    stranger = make_keys(LINEAR)
    body = stranger.context
    reply = parse_reply(evaluate(request_linear.to_bytes(), linear_key, logistic))
    forged = ts.ckks_tensor_from(body, tensor_of(body, np.ones((120, 6))))
    body = forged.mm(ts.plain_tensor([[1.0]] * 6)).serialize()
    header = replace(reply.header, body=cj.to_hex(cj.sha256(body)), body_bytes=len(body))
    with pytest.raises(CiphertextRefused) as refused:
        decrypt(linear_key, Reply(header, body).to_bytes(), request_linear.header)
    assert refused.value.reason == "range"


def test_encrypt_names_what_is_wrong_by_position(linear_key, logistic, patients, make_request):
    rows = patients.rows.copy()
    rows[3, 2] = np.nan
    with pytest.raises(InputMalformed, match="row 3, column 2"):
        make_request(linear_key, logistic, replace(patients, rows=rows))
    rows = patients.rows.copy()
    rows[5, 1] = 1e9
    with pytest.raises(InputMalformed, match="row 5, column 'pressure'"):
        make_request(linear_key, logistic, replace(patients, rows=rows))
    for changes in (
        {"columns": ("a",)}, {"columns": ()}, {"model_digest": "0x1"},
        {"calibration": Calibration.identity(2)}, {"org": ""},
    ):  # fmt: skip
        with pytest.raises(InputMalformed):
            make_request(linear_key, logistic, patients, **changes)
    with pytest.raises(InputMalformed):
        make_request(linear_key, logistic, replace(patients, slots=patients.slots[1:]))
    many = replace(patients, rows=np.zeros((2049, 5)), slots=patients.slots * 18)
    with pytest.raises(InputMalformed):
        make_request(linear_key, logistic, many)


def test_repacking_leaves_out_exactly_who_is_named(linear_key, logistic, request_linear, patients):
    gone = set(patients.subjects[:2])
    again = drop_slots(linear_key, patients.rows, request_linear.header, gone)
    assert again.header.slots == request_linear.header.slots[2:]
    opened, model = through(linear_key, again, logistic)
    plain = clear.predict(model, patients.rows[2:])
    assert (score.decisions(logistic.card, opened) == plain.decisions).all()
    with pytest.raises(InputMalformed):
        drop_slots(linear_key, patients.rows, request_linear.header, patients.subjects)
    with pytest.raises(InputMalformed):
        drop_slots(linear_key, patients.rows[1:], request_linear.header, gone)


def test_a_plan_is_near_what_happens(linear_key, logistic, square, request_linear):
    plan = explain_parameters(logistic.card, 2049)
    assert plan.preset is LINEAR
    assert plan.requests == 2
    one = explain_parameters(logistic.card, 120)
    assert 0.8 < one.request_bytes / len(request_linear.body) < 1.25
    assert explain_parameters(square.card, 120).depth == 3
    with pytest.raises(InputMalformed):
        explain_parameters(logistic.card, 0)
    with pytest.raises(NotComputable):
        explain_parameters(replace(square.card, architecture="mlp-relu"), 1)


def test_nothing_is_printed(make_request, linear_key, logistic, patients, capfd):
    through(linear_key, make_request(linear_key, logistic, patients), logistic)
    assert capfd.readouterr() == ("", "")

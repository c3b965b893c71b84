import io
import json
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from compute import canonical as cj
from compute import clear, models, score, train
from compute.errors import InputMalformed, ModelDigestMismatch, ModelRefused, ModelUnknown
from compute.models import Calibration, Layer, ModelCard, load, load_pinned, pack_weights


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def a_card(data, **changes):
    given = {
        "name": "risk", "version": "1", "architecture": "logistic-regression",
        "features": ("a", "b"), "outputs": ("ill",), "digest": cj.sha256(data),
    }  # fmt: skip
    return ModelCard(**(given | changes))


def a_file(weight=((1.0, -2.0),), bias=(0.5,)):
    return json.dumps({"layers": [{"weight": weight, "bias": bias}]}).encode()


def torch_file():
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        *[(pickle.dumps(Bomb(), protocol=each), "pickle") for each in range(6)],
        (torch_file(), "zip"),
        (b"\x1f\x8bxx", "gzip"),
        (b"\x93NUMPY", "npy"),
        (b"\x7fELF", "executable"),
        (b"", "format"),
        (b"hello", "format"),
        (struct.pack("<Q", 2**30) + b"{}", "header"),
        (struct.pack("<Q", 4) + b"{,,}", "header"),
        (b"{" + b" " * 10, "json"),
        (a_file(weight=((1.0,), (1.0, 2.0))), "json"),
        (a_file(weight=(("x", 1.0),)), "json"),
        (a_file(weight=((1.0, 2.0, 3.0),)), "shape"),
        (a_file().replace(b"-2.0", b"1e400"), "numbers"),
        (b'{"layers":[]}', "shape"),
    ],
)
def test_refused_by_name_and_never_run(data, reason):
    with pytest.raises(ModelRefused) as refused:
        load(data, a_card(data))
    assert refused.value.reason == reason


def test_other_bytes_than_the_card_pins_are_refused():
    data = a_file()
    assert load(data, a_card(data)).layers[0].bias[0] == 0.5
    with pytest.raises(ModelDigestMismatch):
        load(data + b" ", a_card(data))


def test_a_job_gets_the_model_that_it_names():
    data = a_file()
    file = models.ModelFile(data, a_card(data))
    assert load_pinned(file, cj.sha256(data)).card.name == "risk"
    with pytest.raises(ModelUnknown):
        load_pinned(None, cj.sha256(data))
    with pytest.raises(ModelDigestMismatch):
        load_pinned(file, bytes(32))


def test_safetensors_and_json_give_the_same_model():
    packed = pack_weights((Layer(np.array([[1.0, -2.0]]), np.array([0.5])),))
    first, second = load(packed, a_card(packed)), load(a_file(), a_card(a_file()))
    assert (first.layers[0].weight == second.layers[0].weight).all()


def test_a_header_that_begins_like_a_pickle_is_still_safetensors():
    packed = pack_weights((Layer(np.array([[1.0, -2.0]]), np.array([0.5])),))
    (length,) = struct.unpack_from("<Q", packed)
    padded = packed[8 : 8 + length].rstrip().ljust(0x280)
    data = struct.pack("<Q", len(padded)) + padded + packed[8 + length :]
    assert data[:2] == b"\x80\x02"
    assert load(data, a_card(data)).layers[0].bias[0] == 0.5


@pytest.mark.parametrize("dtype", [np.int64, np.float16])
def test_only_floats_are_weights(dtype):
    from safetensors.numpy import save

    data = save({"layers.0.weight": np.ones((1, 2), dtype), "layers.0.bias": np.ones(1, dtype)})
    with pytest.raises(ModelRefused, match="dtype"):
        load(data, a_card(data))


def test_a_damaged_safetensors_file_is_refused():
    packed = pack_weights((Layer(np.array([[1.0, -2.0]]), np.array([0.5])),))
    for data in (packed[:-1], packed + b"x"):
        with pytest.raises(ModelRefused):
            load(data, a_card(data))


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "transformer"},
        {"architecture": "mlp-square"},
        {"features": ("a", "a")},
        {"features": ()},
        {"outputs": ("x", "y")},
        {"digest": b"short"},
        {"name": ""},
        {"calibration": Calibration((0.0,), (1.0,))},
        {"threshold": float("nan")},
    ],
)
def test_a_card_that_does_not_fit_is_refused(changes):
    with pytest.raises(ModelRefused):
        load(a_file(), a_card(a_file(), **changes))


def test_a_card_survives_its_json(logistic):
    value = cj.parse_canonical(cj.canonical(logistic.card.to_value()))
    assert ModelCard.from_value(value) == logistic.card
    for bad in ({**value, "format": "x"}, {**value, "more": 1}, {**value, "digest": "0x12"}, []):
        with pytest.raises(ModelRefused):
            ModelCard.from_value(bad)


def test_a_calibration_cannot_divide_by_zero():
    with pytest.raises(InputMalformed):
        Calibration((0.0,), (0.0,))
    with pytest.raises(InputMalformed):
        Calibration((float("inf"),), (1.0,))


def by_hand(model, rows):
    values = rows
    for index, layer in enumerate(model.layers):
        if index:
            square = model.architecture.activation == "square"
            values = values**2 if square else np.maximum(values, 0)
        values = values @ layer.weight.T + layer.bias
    return values


@pytest.mark.parametrize("family", ["logistic", "svm", "square", "relu"])
def test_torch_agrees_with_a_hand_calculation(family, patients):
    features = ("age", "pressure", "glucose", "creatinine", "stays")
    rows, labels = patients.rows, patients.labels
    if family == "logistic":
        file = train.fit_logistic_regression(rows, labels, features=features)
    elif family == "svm":
        file = train.fit_linear_svm(rows, labels, features=features)
    else:
        file = train.fit_mlp(
            rows, labels, features=features, outputs=("l", "h"), hidden=5, activation=family
        )
    model = load(file.data, file.card)
    found = clear.predict(model, rows)
    outputs = by_hand(model, rows)
    assert np.allclose(found.outputs, outputs, atol=1e-9)
    assert (found.decisions == score.decisions(model.card, outputs)).all()
    assert (found.decisions == labels).mean() > 0.85
    assert np.isfinite(found.scores).all()
    assert clear.engine_name().startswith("torch ")


def test_fits_are_reproducible_to_the_byte(patients):
    features = ("age", "pressure", "glucose", "creatinine", "stays")
    fits = [
        train.fit_mlp(patients.rows, patients.labels, features=features, outputs=("l", "h"))
        for _ in range(2)
    ]
    assert fits[0].data == fits[1].data


def test_training_refuses_gaps_and_odd_labels(patients):
    rows = patients.rows.copy()
    rows[0, 0] = np.nan
    features = ("age", "pressure", "glucose", "creatinine", "stays")
    with pytest.raises(InputMalformed):
        train.fit_logistic_regression(rows, patients.labels, features=features)
    with pytest.raises(InputMalformed):
        train.fit_linear_svm(patients.rows, patients.labels + 5, features=features)
    with pytest.raises(InputMalformed):
        train.fit_mlp(
            patients.rows, patients.labels, features=features, outputs=("l", "h"), activation="x"
        )


def test_inference_refuses_gaps_and_other_widths(logistic, patients):
    model = load(logistic.data, logistic.card)
    with pytest.raises(InputMalformed):
        clear.predict(model, patients.rows[:, :3])
    with pytest.raises(InputMalformed):
        clear.predict(model, np.full((1, 5), np.nan))


def test_scores_are_probabilities_or_margins(logistic):
    outputs = np.array([[0.0], [800.0], [-800.0]])
    assert score.scores(logistic.card, outputs).tolist() == [0.5, 1.0, 0.0]
    margin = replace(logistic.card, architecture="linear-svm")
    assert score.scores(margin, outputs).tolist() == [0.0, 800.0, -800.0]
    assert score.label(logistic.card, 0) == "not positive"
    with pytest.raises(InputMalformed):
        score.decisions(logistic.card, np.zeros((2, 2)))

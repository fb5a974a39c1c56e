"""The scores against scikit-learn and against figures worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from trainables.training.metrics import evaluate, expected_calibration_error, wilson_interval


def drawn(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n).astype(np.int32)
    logits = rng.normal(0, 1, (n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += 1
    return logits, labels


@pytest.mark.parametrize("seed", range(5))
def test_every_figure_agrees_with_scikit_learn(seed: int) -> None:
    logits, labels = drawn(300, 7, seed)
    scores = evaluate(logits, labels, 7)
    predicted = logits.argmax(1)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    probabilities = np.exp(logits.astype(float))
    probabilities /= probabilities.sum(1, keepdims=True)
    assert scores["macro_precision"] == pytest.approx(precision)
    assert scores["macro_recall"] == pytest.approx(recall)
    assert scores["macro_f1"] == pytest.approx(f1)
    assert scores["accuracy"] == pytest.approx((predicted == labels).mean())
    assert scores["loss"] == pytest.approx(log_loss(labels, probabilities))
    assert scores["confusion"] == confusion_matrix(labels, predicted).tolist()


def test_figures_worked_out_by_hand() -> None:
    # true 0 0 0 1, predicted 0 0 1 1: precision 1 and 1/2, recall 2/3 and 1, F1 4/5 and 2/3
    logits = np.array([[2, 0], [2, 0], [0, 2], [0, 2]], np.float32)
    scores = evaluate(logits, np.array([0, 0, 0, 1], np.int32), 2)
    assert scores["accuracy"] == 0.75
    assert scores["macro_precision"] == pytest.approx(0.75)
    assert scores["macro_recall"] == pytest.approx(5 / 6)
    assert scores["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores["per_class_recall"] == pytest.approx([2 / 3, 1])
    assert scores["confusion"] == [[2, 1], [0, 1]]
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert scores["loss"] == pytest.approx((3 * right + wrong) / 4)


def test_keras_precision_is_not_macro_precision() -> None:
    import keras

    logits = np.log(np.array([[0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.4, 0.3, 0.3], [0.1, 0.1, 0.8]], np.float32))
    labels = np.array([0, 1, 2, 2], np.int32)
    pooled = keras.metrics.Precision()
    pooled.update_state(np.eye(3)[labels], np.exp(logits))
    # Keras judges the two cells above 0.5 and finds both right; of three classes, one is never predicted rightly.
    assert float(pooled.result()) == 1.0
    assert evaluate(logits, labels, 3)["macro_precision"] == pytest.approx((1 / 3 + 0 + 1) / 3)


def test_a_class_without_labels_has_no_recall_and_no_share_in_the_means() -> None:
    logits = np.array([[2, 0, 0], [0, 2, 0], [0, 0, 2]], np.float32)
    labels = np.array([0, 1, 1], np.int32)
    scores = evaluate(logits, labels, 3)
    assert scores["per_class_recall"] == [1.0, 0.5, None]
    expected = precision_recall_fscore_support(labels, logits.argmax(1), labels=[0, 1], average="macro")
    got = [scores[key] for key in ("macro_precision", "macro_recall", "macro_f1")]
    assert got == pytest.approx(list(expected[:3]))


def test_a_class_never_predicted_has_precision_zero_without_a_warning() -> None:
    logits = np.array([[2, 0], [2, 0]], np.float32)
    assert evaluate(logits, np.array([0, 1], np.int32), 2)["macro_precision"] == 0.25


def test_nan_logits_give_a_nan_loss_and_count_as_wrong() -> None:
    logits, labels = drawn(10, 3)
    logits[0] = np.nan
    scores = evaluate(logits, labels, 3)
    assert math.isnan(scores["loss"])
    assert np.sum(scores["confusion"]) == 9
    assert scores["images"] == 10
    rest = evaluate(logits[1:], labels[1:], 3)
    assert scores["accuracy"] == pytest.approx(rest["accuracy"] * 0.9)


def test_infinite_logits_raise_nothing() -> None:
    logits = np.array([[np.inf, 0.0], [np.inf, np.inf]], np.float32)
    assert math.isnan(evaluate(logits, np.array([0, 1], np.int32), 2)["loss"])


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([[1e4, -1e4]], np.float32)
    assert evaluate(logits, np.array([1], np.int32), 2)["loss"] == pytest.approx(2e4)


def test_scores_go_through_json() -> None:
    logits, labels = drawn(20, 4)
    scores = evaluate(logits, labels, 4)
    assert json.loads(json.dumps(scores)) == scores


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 2)), np.zeros(3), r"logits must be \(n, 4\) and labels \(n,\).*Received: \(3, 2\) and \(3,\)"),
        (np.zeros((0, 4)), np.zeros(0), r"n >= 1\. Received: \(0, 4\)"),
        (np.zeros((2, 4)), np.array([0, 4]), r"labels must be 0 to 3\. Received: 0 to 4"),
        (np.zeros((2, 4)), np.array([-1, 0]), r"labels must be 0 to 3\. Received: -1 to 0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(logits: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(logits.astype(np.float32), labels.astype(np.int32), 4)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 10), (1, 3), (575, 1000), (2311, 3589), (10, 10)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_interval_is_scipys(successes: int, n: int, confidence: float) -> None:
    from scipy.stats import binomtest

    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_refuses_more_successes_than_tries() -> None:
    with pytest.raises(ValueError, match=r"successes must be 0 to n.*Received: successes=11, n=10"):
        wilson_interval(11, 10)


def test_calibration_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.8, 0.2]] * 10, np.float32)
    assert expected_calibration_error(probabilities, np.array([0] * 8 + [1] * 2)) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(probabilities, np.array([0] * 5 + [1] * 5)) == pytest.approx(0.3, abs=1e-6)
    sure = np.array([[1, 0], [0, 1]], np.float32)
    assert expected_calibration_error(sure, np.array([1, 0])) == 1

"""Optimizers and schedules of the user's own: what they are given, and what the check finds before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.own_training import own_training
from trainables.errors import OwnCodeError
from trainables.models.optimizers import build_optimizer, learning_rate_at
from trainables.models.own_optimizer_check import check

HEAD = "import keras\n\ndef make_optimizer(learning_rate, *, beta: float = 0.9):\n"
CLASS = """
class Own(keras.optimizers.SGD):
    def __init__(self, learning_rate=0.01, **options):
        super().__init__(learning_rate, **options)
        self.calls = 0
"""


def tried(text: str, what: str, folder: Path) -> dict[str, object]:
    """Returns what the process of a check answers, asked in this process."""
    request = {"config": own_training(text).model_dump(), "what": what, "lengths": [4, 6]}
    return check(request, folder)


def test_a_function_makes_the_optimizer_from_its_parameters() -> None:
    optimizer = build_optimizer(own_training(learning_rate=0.02, optimizer_beta=0.5), micro_batches=2)
    assert type(optimizer).__name__ == "SignDescent" and optimizer.beta == 0.5
    assert float(optimizer.learning_rate) == pytest.approx(0.02)
    assert optimizer.gradient_accumulation_steps == 2


def test_a_function_tells_the_share_of_the_learning_rate() -> None:
    config = own_training(learning_rate=0.1, schedule_power=1.0)
    rates = [learning_rate_at(config, epoch, 4) for epoch in range(4)]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_what_is_in_order_is_told(tmp_path: Path) -> None:
    from tests.support.own_training import OWN_TRAINING

    assert tried(OWN_TRAINING, "optimizer", tmp_path) == {"kind": "SignDescent"}
    assert tried(OWN_TRAINING, "schedule", tmp_path) == {"least": pytest.approx(1 / 36), "most": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "    return beta\n", r"must return a keras\.optimizers\.Optimizer\. Received: float"),
        (
            HEAD + "    return keras.optimizers.Adam(0.5)\n",
            r"must use the learning rate.* Received: 0\.5",
        ),
        (
            HEAD + "    return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(learning_rate, 9))\n",
            r"must take its learning rate as a number\. Received: CosineDecay",
        ),
        (
            HEAD + "    return keras.optimizers.Adam(learning_rate, use_ema=True)\n",
            r"must leave averaged weights to weight_average",
        ),
        (
            HEAD + "    return keras.optimizers.Adam(learning_rate, gradient_accumulation_steps=4)\n",
            r"must leave the accumulation of gradients to emotune.*gradient_accumulation_steps=4",
        ),
        (HEAD + "    return 1 / 0\n", r"\(line 4\) cannot make an optimizer: ZeroDivisionError"),
        (
            HEAD + "    print(beta)\n    return keras.optimizers.SGD(learning_rate)\n",
            r"print nothing\. Received: '0\.9'",
        ),
        (
            "import keras\nONE = keras.optimizers.Adam(1e-3)\n" + HEAD.partition("\n")[2] + "    return ONE\n",
            r"my_training\.py:make_optimizer .*",
        ),
        (
            HEAD.replace("\n\n", CLASS.replace("self.calls = 0", "self.calls = learning_rate") + "\n", 1)
            + "    return Own(learning_rate, momentum=beta, weight_decay='much')\n",
            r"cannot make a step|cannot make an optimizer",
        ),
        (HEAD + "    return keras.optimizers.SGD(learning_rate, momentum=beta, clipnorm='x')\n", r"cannot make a"),
        (
            HEAD.replace("\n\n", CLASS + "\n    def update_step(self, g, v, rate):\n        v.assign(v / 0.0)\n\n", 1)
            + "    return Own(learning_rate)\n",
            r"must keep weights finite",
        ),
    ],
)
def test_an_optimizer_that_is_not_in_order_is_told_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OwnCodeError, match=message) as raised:
        tried(text, "optimizer", tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return -0.1", r"a number from 0 to 1000.*Received: -0\.1 for epoch 0 of 4"),
        ("return float('nan')", r"Received: nan"),
        ("return None", r"Received: None"),
        ("return True", r"Received: True"),
        ("return [1, 1][epoch]", r"\(line 2\) cannot tell a learning rate: IndexError"),
        ("import random; return random.random()", r"must return the same for the same epoch"),
        ("print('x'); return 1", r"must print nothing"),
    ],
)
def test_a_schedule_that_is_not_in_order_is_told_in_one_line(body: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OwnCodeError, match=message) as raised:
        tried(f"def schedule(epoch, max_epochs):\n    {body}\n", "schedule", tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("length", [4, 6])
def test_a_schedule_is_tried_for_trials_and_for_final_fits_of_another_length(length: int, tmp_path: Path) -> None:
    with pytest.raises(OwnCodeError, match="my_training.py:schedule .*ZeroDivisionError"):
        tried(f"def schedule(epoch, max_epochs):\n    return 1 / abs(max_epochs - {length})\n", "schedule", tmp_path)

"""Training on a network and pictures small enough for a test."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.small import fit, make_trainer, small_network, small_recipe, stills
from train.data import Images
from train.learning import checkpoint
from train.learning.checkpoint import CheckpointError
from train.learning.loop import Trainer
from train.learning.schedule import Budget, rate
from train.learning.validation import figures, predict, score
from train.recipe import Schedule
from train.run.watch import Interrupted, TrainingError


@pytest.fixture(scope="module")
def pictures() -> Images:
    return stills(9, 64)


@pytest.fixture(scope="module")
def small() -> Images:
    return stills(9, 32)


def same_weights(one: Trainer, other: Trainer) -> bool:
    pairs = zip(one.judged.state_dict().items(), other.judged.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for (_, a), b in pairs)


def stop_after(steps: int) -> dict[str, object]:
    calls = iter(range(1, 1000))
    return {"stopping": lambda: next(calls) == steps}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    pictures: Images, small: Images, tmp_path: Path
) -> None:
    runs = [make_trainer(pictures, small_recipe(), seed=seed) for seed in (3, 3, 4)]
    for number, run in enumerate(runs):
        torch.manual_seed(number)  # whatever was drawn before does not count
        fit(run, small, tmp_path / str(number))

    assert same_weights(runs[0], runs[1])
    assert not same_weights(runs[0], runs[2])


@pytest.mark.parametrize("steps", [2, 4])
def test_a_run_that_was_stopped_ends_exactly_as_one_that_was_not(
    pictures: Images, small: Images, tmp_path: Path, steps: int
) -> None:
    """Three steps make an epoch: one run stops within the first, the other within the second."""
    whole = make_trainer(pictures, small_recipe())
    expected = fit(whole, small, tmp_path / "whole")

    first = make_trainer(pictures, small_recipe())
    with pytest.raises(Interrupted):
        fit(first, small, tmp_path / "half", **stop_after(steps))
    path = tmp_path / "half" / "last.pt"
    second = make_trainer(pictures, small_recipe())
    torch.manual_seed(99)
    second.restore(checkpoint.load(path), path)
    rest = fit(second, small, tmp_path / "half")

    assert same_weights(whole, second)
    assert rest[-1].losses == expected[-1].losses
    assert rest[-1].validation == expected[-1].validation
    lines = [(tmp_path / name / "epochs.jsonl").read_text().splitlines() for name in ("whole", "half")]
    epochs = [[json.loads(line)["epoch"] for line in of_run] for of_run in lines]
    assert epochs == [[1, 2], [1, 2]]


def test_a_checkpoint_of_other_settings_is_refused_by_the_name_of_what_differs(
    pictures: Images, tmp_path: Path
) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, make_trainer(pictures, small_recipe()).state())
    state = checkpoint.load(path)

    other = small_recipe(optimizer={"lr": 0.5})
    with pytest.raises(CheckpointError, match=r"recipe\.optimizer\.lr = 0\.001, this run has 0\.5"):
        make_trainer(pictures, other).restore(state, path)
    with pytest.raises(CheckpointError, match="seed 3"):
        make_trainer(pictures, small_recipe(), seed=8).restore(state, path)
    with pytest.raises(CheckpointError, match="other training images"):
        make_trainer(pictures.take(np.arange(8)), small_recipe()).restore(state, path)


def test_the_best_epoch_is_kept_not_the_last(pictures: Images, small: Images, tmp_path: Path) -> None:
    recipe = small_recipe(train={"epochs": 4, "batch": 4}, score={"accuracy": 1.0})
    run = make_trainer(pictures, recipe)
    reports = fit(run, small, tmp_path)

    best = checkpoint.load(tmp_path / "best.pt")
    scores = [report.score for report in reports]
    assert best["epoch"] == 1 + scores.index(max(scores))  # type: ignore[type-var]
    assert best["score"] == max(scores)  # type: ignore[type-var]
    network = small_network()
    network.load_state_dict(best["weights"])
    assert figures(predict(network, small), small)["accuracy"] == pytest.approx(best["score"])


def test_a_run_without_a_score_keeps_the_last_epoch(pictures: Images, small: Images, tmp_path: Path) -> None:
    run = make_trainer(pictures, small_recipe(score={}))
    fit(run, small, tmp_path)

    assert checkpoint.load(tmp_path / "best.pt")["epoch"] == 2


def test_a_run_that_gets_no_better_ends_early(pictures: Images, small: Images, tmp_path: Path) -> None:
    train = {"epochs": 30, "batch": 4, "patience": 2}
    run = make_trainer(pictures, small_recipe(train=train, optimizer={"lr": 1e-9}))
    reports = fit(run, small, tmp_path)

    assert [report.best for report in reports] == [True, False, False]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_images(
    pictures: Images, tmp_path: Path
) -> None:
    run = make_trainer(pictures, small_recipe())
    with torch.no_grad():
        next(run.network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"not finite .*batch was: (still-\d+-\w+(, )?){4}\."):
        fit(run, pictures, tmp_path)
    assert not (tmp_path / "last.pt").exists()


def test_bf16_halves_what_passes_between_layers_and_keeps_the_weights_whole(pictures: Images) -> None:
    run = make_trainer(pictures, small_recipe(train={"epochs": 1, "batch": 4, "bf16": True}))
    convolution = next(one for one in run.network.modules() if isinstance(one, torch.nn.Conv2d))
    passed: list[torch.Tensor] = []
    convolution.register_forward_hook(lambda _module, _given, answer: passed.append(answer))

    run.train_step(np.arange(4), 1e-3)

    assert passed[0].dtype == torch.bfloat16
    assert all(weight.dtype == torch.float32 for weight in run.network.parameters())
    assert np.isfinite(run.losses.latest["total"])


def test_pictures_and_weights_lie_channels_last(pictures: Images) -> None:
    run = make_trainer(pictures, small_recipe())
    wide = next(
        one for one in run.network.modules() if isinstance(one, torch.nn.Conv2d) and one.in_channels > 2
    )
    given: list[torch.Tensor] = []
    wide.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0]))

    run.train_step(np.arange(4), 1e-3)

    assert given[0].is_contiguous(memory_format=torch.channels_last)
    assert wide.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_averaged_weights_follow_the_network_s(pictures: Images) -> None:
    run = make_trainer(pictures, small_recipe(train={"epochs": 1, "batch": 4, "ema": 0.9}))
    before = {name: value.clone() for name, value in run.judged.state_dict().items()}
    run.train_step(np.arange(4), 1e-2)

    for name, value in run.network.state_dict().items():
        mean = run.judged.state_dict()[name]
        decay = 1 / 11  # the first step: a tenth of the run so far
        assert torch.allclose(mean, decay * before[name] + (1 - decay) * value, atol=1e-6)


def test_the_rate_warms_up_and_falls_to_the_end() -> None:
    cosine = Schedule(name="cosine", warm_up=0.02, final=0.01)
    rates = [rate(cosine, 1e-3, progress, 0) for progress in (0, 0.02, 0.5, 1)]
    assert rates[0] < rates[2] < rates[1] == 1e-3
    assert rates[3] == pytest.approx(1e-5)
    step = Schedule(name="step", every_epochs=20, gamma=0.9)
    assert [rate(step, 1.0, 0.5, epochs) for epochs in (0, 19.9, 20, 40)] == pytest.approx([1, 1, 0.9, 0.81])
    assert rate(Schedule(), 1e-3, 0.7, 3) == 1e-3


def test_a_run_ends_after_its_epochs_or_its_minutes() -> None:
    assert Budget(epochs=4).progress(1, 1e9) == 0.25
    assert Budget(minutes=2).progress(99, 60) == 0.5
    with pytest.raises(ValueError, match="either minutes or epochs"):
        Budget(epochs=1, minutes=1)


def test_a_figure_that_a_set_lacks_counts_nothing() -> None:
    sets = {"one": {"dice": 0.5, "accuracy": 1.0}, "two": {"dice": 0.7}}
    assert score(sets, {"dice": 2.0, "accuracy": 1.0}) == pytest.approx((2.0 + 1.4) / 2)
    assert score(sets, {}) is None

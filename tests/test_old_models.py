"""A model file as version 0.1 had them: its classes are a tensor, and `conditional` says that it
wants them."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from conftest import small_run, toy
from likeness import engine, models
from likeness.core import Batch, Condition, Noise, answers
from likeness.models import Labelled
from likeness.runs.run import Run
from likeness.training import snapshots
from likeness.training.loop import fit

OLD = """
from torch import Tensor, nn
from likeness.core import Batch, Bits, Loss, Model, Player, Training, option
from likeness.noise import Noise
from likeness.parts import resnet

SEEN = []


class Mine(Model):
    latent: int = option(8, "numbers in the code", 1, 4096)
    defaults = Training(rate=1e-3)
    CONDITIONAL

    def build(self) -> None:
        self.encoder = resnet.encoder(self.spec.channels, self.spec.size, self.latent, 8, 1)
        self.decoder = resnet.decoder(self.latent, self.spec.channels, self.spec.size, 8, 1)
        self.classes = nn.Embedding(max(1, self.spec.labels), self.latent)

    def loss(self, batch: Batch) -> Loss:
        SEEN.append(batch.y)
        z = self.encode(batch.x) + batch.noise.normal(self.latent) * 0.1
        if batch.y is not None:
            z = z + self.classes(batch.y)
        return Loss((self.decode(z) - batch.x).square().mean())

    PLAYERS

    def bits_per_dim(self, batch: Batch) -> Bits:
        return Bits(self.loss(batch).total.detach().expand(len(batch)), "estimate")  # one method calls another

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def sample(self, noise: Noise, y: Tensor | None = None):
        SEEN.append(y)
        z = noise.normal(self.latent)
        yield self.decode(z if y is None else z + self.classes(y))
"""  # noqa: E501
PLAYERS = {
    "its loss": "",
    "a player of its own": 'def players(self): return (Player("both", self, self.loss),)',
    "two players": """def players(self): return (
        Player("code", self.encoder, self.loss), Player("rest", nn.ModuleList([self.decoder, self.classes]), lambda batch: self.loss(batch)))""",  # noqa: E501
}


def written(folder: Path, players: str = "its loss", conditional: str = "conditional = True") -> str:
    path = folder / "mine.py"
    path.write_text(OLD.replace("PLAYERS", PLAYERS[players]).replace("CONDITIONAL", conditional))
    return str(path)


def seen(run: Run) -> list[torch.Tensor | None]:
    """What the model's own methods were called with, since the last call of this; its file is the copy that
    the run keeps."""
    everything = vars(sys.modules[type(run.model).__module__])["SEEN"]
    out = list(everything)
    everything.clear()
    return out


@pytest.mark.parametrize("players", PLAYERS)
@pytest.mark.parametrize("micro", [0, 5])
def test_it_trains_and_its_loss_sees_the_classes(players, micro, tmp_path):
    name, data = written(tmp_path, players), toy()
    run, _ = small_run(name, tmp_path / "run", data, micro=micro)
    assert run.model.takes == ("label",) and models.load(name) is models.load(name)
    seen(run)
    before = run.student.classes.weight.clone()
    assert all(math.isfinite(loss) for step in fit(run, data) for loss in step.losses.values())
    told = seen(run)
    assert told and all(isinstance(y, torch.Tensor) and y.dtype == torch.int64 and y.ndim == 1 for y in told)
    assert set(torch.cat(told).tolist()) == {0, 1}
    assert bool((run.student.classes.weight != before).any(1).all()), "both classes are learnt"


def test_its_answers_see_the_classes_that_a_condition_tells(tmp_path):
    name, data = written(tmp_path), toy()
    run, _ = small_run(name, tmp_path / "run", data)
    list(fit(run, data))
    model, _ = run.model, seen(run)
    *_, x = model.sample(Noise(range(4)), Condition(torch.tensor([0, 1, 1, 0])))
    *_, other = model.sample(Noise(range(4)), y=Condition(torch.tensor([1, 1, 1, 0])))
    assert (
        [y.tolist() for y in seen(run)] == [[0, 1, 1, 0], [1, 1, 1, 0]]
        and not torch.equal(x[0], other[0])
        and torch.equal(x[1:], other[1:])
    )
    list(model.sample(Noise(range(4))))
    assert seen(run) == [None]
    batch = engine.put(data.take(data.held_out[:6]))
    assert model.bits_per_dim(batch).values.shape == (6,) and torch.equal(seen(run)[0], batch.y.label)
    assert answers(model) == ("sample", "bits_per_dim", "encode", "decode")
    assert snapshots.view(run, data, 4).shape == (4, *data.spec.shape)


def test_a_batch_of_classes_is_cut_with_its_classes():
    batch = Labelled(torch.arange(5.0).view(5, 1, 1, 1), torch.arange(5), Noise(range(5)), 2, 9)
    parts = batch.split(2)
    assert [part.y.tolist() for part in parts] == [[0, 1], [2, 3], [4]] and all(
        (part.step, part.seen) == (2, 9) for part in parts
    )
    assert [part.y for part in Labelled(batch.x, None, batch.noise).split(3)] == [None, None]


def test_one_that_was_never_conditional_is_left_as_it_is(tmp_path):
    kind = models.load(written(tmp_path, conditional=""))
    assert kind.takes == () and not hasattr(kind.loss, "__wrapped__")
    with pytest.raises(TypeError, match="Condition"):
        Batch(torch.zeros(2, 1, 4, 4), torch.zeros(2).long(), Noise(range(2)))


@pytest.mark.parametrize("value", [True, False])
def test_as_an_option_it_says_whether_classes_are_wanted(value, tmp_path):
    name, data = written(tmp_path, conditional='conditional: bool = option(False, "classes")'), toy()
    run, _ = small_run(name, tmp_path / "run", data, options=dict(conditional=value))
    assert run.model.takes == (("label",) if value else ())
    list(fit(run, data))

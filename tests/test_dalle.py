"""DALL-E: p(codes | text) adds up to one for every text, what is guided is what two passes say, and the
memory
draws what the full pass draws."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conftest import toy
from likeness import engine
from likeness.core import PAD, Batch, Condition, Noise, Refusal, Spec, final
from likeness.models.dalle import DALLE, LONGEST
from likeness.models.vqvae import VQVAE
from likeness.parts.causal import Memory
from likeness.runs import latent_model
from likeness.runs.run import Config, Run
from likeness.training.loop import fit

CODES = Spec(1, 2, levels=4, symbols=True, vocabulary=6, tokens=3)
TEXTS = torch.tensor([[2, 3, PAD], [5, 4, 2], [PAD, PAD, PAD], [1, PAD, PAD]])


class Sighted(DALLE):
    """The fake: attention sees the future."""

    def build(self) -> None:
        super().build()
        for block in self.net.blocks:
            block.attention.causal = False


class Deaf(DALLE):
    """The fake: no text is heard."""

    def tokens(self, n: int, y: Condition | None) -> Tensor:
        return super().tokens(n, None)


def made(spec: Spec = CODES, kind: type[DALLE] = DALLE, **options: object) -> DALLE:
    """In float64, with weights large enough for everything to matter."""
    model = kind(spec=spec, width=16, depth=2, heads=2, **options).double()
    g = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=g, dtype=p.dtype) * 0.4
    return model


def every_code() -> Tensor:
    grid = torch.tensor(list(itertools.product(range(4), repeat=4)), dtype=torch.float64)
    return grid.view(256, 1, 2, 2) * (2 / 3) - 1


def log_p(model: DALLE, x: Tensor, y: Condition | None) -> Tensor:
    return -model.bits_per_dim(Batch(x, y, Noise(range(len(x))))).values * math.log(2) * model.spec.dims


def test_the_probabilities_of_all_codes_add_up_to_one_for_every_text():
    model, x, seen = made(), every_code(), []
    for text in TEXTS:
        p = log_p(model, x, Condition(tokens=text.expand(256, -1))).exp()
        assert float(p.sum()) == pytest.approx(1, abs=1e-10)
        seen.append(p)
    assert not torch.allclose(seen[0], seen[1], rtol=0.01), "the text is not heard"
    assert torch.equal(log_p(model, x, None).exp(), seen[2]), "a text of no word is no text"
    fake = log_p(made(kind=Sighted), x, Condition(tokens=TEXTS[0].expand(256, -1)))
    assert abs(float(fake.exp().sum()) - 1) > 0.01
    deaf = made(kind=Deaf)
    assert torch.equal(*(log_p(deaf, x, Condition(tokens=t.expand(256, -1))) for t in TEXTS[:2]))


def test_words_see_the_words_before_and_no_code():
    model, x = made(), every_code()[:4]
    y = Condition(tokens=TEXTS)
    before = model.features(x, y)
    assert torch.equal(model.features(-x, y)[:, :4], before[:, :4])  # the start knows no code either
    other = TEXTS.clone()
    other[:, 2] = 5
    after = model.features(x, Condition(tokens=other))
    assert torch.equal(after[:, :2], before[:, :2]) and not torch.equal(after[:, 2:], before[:, 2:])


def test_the_words_are_learnt_by_what_follows_them_alone():
    model = made()
    h, tokens = model.features(every_code()[:4], Condition(tokens=TEXTS)), TEXTS
    by_hand = []
    for row, text in zip(h.detach(), tokens):
        said = [i for i in range(2) if text[i] != PAD]
        logp = model.speller(row[:2]).log_softmax(-1)
        by_hand.append(-sum(float(logp[i, text[i + 1]].detach()) for i in said) / max(1, len(said)))
    assert float(model.spelling(h, tokens)) == pytest.approx(sum(by_hand) / 4 / math.log(2), rel=1e-5)


SPECS = {
    "codes": CODES,
    "pixels": Spec(3, 2, levels=3, vocabulary=6, tokens=3),
    "no text": Spec(1, 3, levels=4),
}


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_the_memory_draws_what_the_full_pass_draws(spec, guidance):
    model = made(spec, guidance=guidance)
    y = Condition(tokens=TEXTS) if spec.vocabulary else None
    nothing, x = torch.zeros(spec.size, spec.size, dtype=torch.bool), torch.zeros(4, *spec.shape)
    fast, slow = (final(model.complete(x, nothing, Noise(range(4)), y, naive=n)) for n in (False, True))
    assert torch.equal(fast, slow)
    half = nothing.clone()
    half[0] = True
    fast, slow = (final(model.complete(slow, half, Noise(range(9, 13)), y, naive=n)) for n in (False, True))
    assert torch.equal(fast, slow)


def test_guidance_is_a_line_through_what_is_said_with_and_without_the_text():
    model, x, y = made(), every_code()[:4], Condition(tokens=TEXTS)
    memory = Memory(2)
    memory.row = memory.column = 1
    told, silent = (memory.here(model.predict(x, c)) for c in (y, None))
    for guidance in (0.0, 0.5, 1.0, 3.0):
        model.guidance = guidance
        expected = silent + guidance * (told - silent)
        assert torch.allclose(model.answer(x, memory, y, naive=True), expected, atol=1e-12)
    assert torch.allclose(told[2], silent[2])  # a text of no word
    model.drop_text = 0.0
    with pytest.raises(Refusal, match="has never learnt that; train it with --drop-text"):
        model.answer(x, memory, y, naive=False)


def test_samples_follow_the_probabilities_of_their_text():
    model = made(Spec(1, 1, levels=4, symbols=True, vocabulary=6, tokens=3))
    n, text = 4000, TEXTS[1]
    y = Condition(tokens=text.expand(n, -1))
    x = final(model.sample(Noise(range(n)), y))
    k = ((x.flatten() + 1) * 1.5).round().long()
    p = model.log_probs(torch.zeros(1, 1, 1, 1, dtype=torch.float64), Condition(tokens=text[None])).exp()
    off = (k.bincount(minlength=4) / n - p.flatten()).abs()
    assert bool((off < 4 * (p.flatten() / n).sqrt() + 1e-3).all())


def test_a_text_too_long_is_cut_and_too_short_is_filled():
    model, x = made(), every_code()[:1]
    whole = model.predict(x, Condition(tokens=torch.tensor([[2, 3, 4]])))
    assert torch.equal(whole, model.predict(x, Condition(tokens=torch.tensor([[2, 3, 4, 5, 2]]))))
    short = model.predict(x, Condition(tokens=torch.tensor([[2]])))
    assert torch.equal(short, model.predict(x, Condition(tokens=torch.tensor([[2, PAD, PAD]]))))


def test_what_it_cannot_learn_is_refused():
    with pytest.raises(Refusal, match=r"sequence of 12,300, .*likeness train dalle runs/vqvae"):
        DALLE(spec=Spec(3, 64, vocabulary=9, tokens=12))
    assert LONGEST == 4096
    with pytest.raises(Refusal, match="even number of features; use --width 16"):
        DALLE(spec=CODES, width=18, heads=4)


def captioned():
    """Half of the images have no caption."""
    data = toy(64, held_out=16)
    texts = [("a bright disc", "a square")[k] if i % 2 else "" for i, k in enumerate(data.y)]
    return replace(data, texts=texts)


def test_it_learns_codes_of_a_first_stage_with_the_text_of_their_images(tmp_path: Path):
    data = captioned()
    first = VQVAE(spec=data.spec, width=8, depth=1, codes=16, code_width=4)
    model = latent_model.make(DALLE, data.spec, dict(width=16, depth=1, heads=2), first)
    assert model.takes == ("tokens",) and model._inner.spec.vocabulary == data.spec.vocabulary == 6
    batch = engine.put(data.take(data.train[:8]))
    model.loss = model._of_codes(model._inner.loss)
    terms = model.loss(batch).terms
    assert "bits a word" in terms
    y = Condition(tokens=batch.y.tokens)
    a, b = (final(model.sample(Noise(range(8)), c)) for c in (y, None))
    assert a.shape == batch.x.shape and torch.equal(a[0::2], b[0::2])  # rows without a caption
    assert model.bits_per_dim(batch).kind == "upper bound"


def test_every_weight_of_a_model_of_texts_moves_and_a_split_batch_is_the_same(tmp_path: Path):
    data = captioned()
    spec, settings = data.spec, replace(DALLE.defaults, images=64, batch=16, precision="fp32", warmup=0)
    options = DALLE(spec=spec, width=16, depth=1, heads=2).options()
    runs = []
    for name, micro in (("a", 0), ("b", 5)):
        config = Config("dalle", spec, replace(settings, micro=micro, clip=0.0), options, dict(source="toy"),
                        engine.facts(), vocabulary=list(data.vocabulary.words))  # fmt: skip
        runs.append(Run.create(tmp_path / name, config))
    before = {k: v.clone() for k, v in runs[0].student.named_parameters()}
    first, second = (next(fit(run, data)) for run in runs)
    for term, value in first.losses.items():
        assert second.losses[term] == pytest.approx(value, rel=1e-5)
    list(fit(runs[0], data))
    still = [k for k, v in runs[0].student.named_parameters() if torch.equal(v, before[k])]
    assert still == []

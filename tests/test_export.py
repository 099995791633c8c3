"""ONNX files that answer as the model does, and model cards that say what is known and no more."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import small_run, toy
from likeness import cli
from likeness.core import Condition, Refusal
from likeness.data import Data
from likeness.evaluation.scores import save_scores
from likeness.metrics.card import Score
from likeness.reports import exporting, model_card
from likeness.runs import onnx
from likeness.runs.run import Run


def lively(name: str, folder: Path, **how: object) -> tuple[Run, Data]:
    """An untrained run, none of whose weights is zero."""
    run, data = small_run(name, folder, **how)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in run.model.parameters():
            p.add_(torch.randn(p.shape, generator=g) * 0.05)
    run.close()
    return run, data


def asked(run: Run, data: Data) -> SimpleNamespace:
    return SimpleNamespace(run=run, data=data)


# ONNX


def session(path: Path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def needs_onnx() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


CASES = [("gan", None, "decode"), ("vae", "encode", "encode"), ("ddpm", None, "denoise")]


@pytest.mark.parametrize(("name", "part", "answer"), CASES)
def test_onnxruntime_answers_as_the_model_does(tmp_path, name, part, answer):
    """The smallest of each kind: what tracing costs grows with the number of layers, to 17 s for a U-Net;
    whoever exports one has it compared by export() itself."""
    needs_onnx()
    size, options = (4, dict(net="mlp")) if name == "ddpm" else (16, {})
    run, _ = lively(name, tmp_path / "r", data=toy(size=size), options=options)
    graph, difference = onnx.export(run, tmp_path / "m.onnx", part)
    there = session(tmp_path / "m.onnx")
    assert (
        graph.answer == answer
        and difference < 1e-4
        and [i.name for i in there.get_inputs()] == list(graph.inputs)
    )
    for n in (1, 2, 7):
        x = torch.from_numpy(
            np.random.default_rng(n).normal(size=(n, 1, size, size)).astype(np.float32)
        ).clamp(-1, 1)
        z = torch.from_numpy(np.random.default_rng(n).normal(size=(n, 8)).astype(np.float32))
        inputs = dict(decode=(z,), encode=(x,), denoise=(x, torch.linspace(1, 1000, n)))[answer]
        with torch.no_grad():
            want = getattr(run.model, answer)(*inputs)
        (got,) = there.run([graph.output], {k: v.numpy() for k, v in zip(graph.inputs, inputs)})
        assert got.dtype == np.float32 and got.shape == tuple(want.shape) and want.std() > 1e-3
        assert np.abs(got - want.numpy()).max() < 1e-4
    facts = there.get_modelmeta().custom_metadata_map
    assert facts["likeness.answer"] == answer and facts["likeness.model"] == name
    first = next(iter(graph.inputs))
    assert facts[f"likeness.input.{first}"] == graph.inputs[first]
    assert "from -1 (black) to 1 (white)" in " ".join([*graph.inputs.values(), graph.means])
    if answer == "denoise":
        assert "from 1 (nearly clean) to 1000 (noise alone)" in facts["likeness.input.t"]
        schedule = run.model.schedule
        for t, alpha, sigma in json.loads(facts["likeness.levels"]):
            at = torch.tensor([t])
            assert (alpha, sigma) == pytest.approx(
                (float(schedule.alpha(at)), float(schedule.sigma(at))), abs=1e-5
            )


GENERATORS = {
    "pix2pix": (dict(depth=1, width=4), ("translate",)),
    "cyclegan": (dict(blocks=0, width=4), ("translate", "translate-back")),
    "superres": (dict(depth=1, width=4), ("translate",)),
    "faststyle": (dict(blocks=0, width=4), ("translate",)),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_are_exported_for_images_of_any_size(tmp_path, name):
    needs_onnx()
    options, parts = GENERATORS[name]
    run, _ = lively(name, tmp_path / "r", data=toy(16, 16, 3, held_out=4), options=options)
    for part in parts:
        back = part != "translate"
        graph, _ = onnx.export(run, tmp_path / "m.onnx", part if back else None)
        there = session(tmp_path / "m.onnx")
        assert graph.answer == part and "height, width" in graph.inputs["source"]
        for n, height, width in ((1, 16, 24), (3, 36, 8)):
            x = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(n)) * 2 - 1
            want = run.model.translate(x, back).numpy()
            (got,) = there.run(["image"], {"source": x.numpy()})
            scale = 2 if name == "superres" else 1
            assert got.shape == want.shape == (n, 3, scale * height, scale * width) and want.std() > 1e-3
            assert np.abs(got - want).max() < 1e-4
    if len(parts) == 1:
        with pytest.raises(Refusal, match=f"translate-back of {name} cannot be exported: {name}"):
            onnx.export(run, tmp_path / "m.onnx", "translate-back")


def test_a_conditional_denoiser_is_told_the_class(tmp_path):
    needs_onnx()
    run, _ = lively("edm", tmp_path / "r", options=dict(conditional=True, net="mlp"), data=toy(size=4))
    graph, _ = onnx.export(run, tmp_path / "m.onnx")
    x, t, y = torch.randn(3, 1, 4, 4), torch.tensor([0.1, 1.0, 9.0]), torch.tensor([0, 1, -1])
    with torch.no_grad():
        want, other = (run.model.denoise(x, t, Condition(label)) for label in (y, y.roll(1)))
    (got,) = session(tmp_path / "m.onnx").run(None, {k: v.numpy() for k, v in zip(graph.inputs, (x, t, y))})
    assert np.abs(got - want.numpy()).max() < 1e-4 < (want - other).abs().max()


@pytest.mark.parametrize(
    ("name", "part", "why"),
    [
        ("pixelcnn", None, "pixel after pixel"),
        ("ddpm", "encode", "differential equation"),
        ("gan", "classify", "no classify to export; it has: decode"),
        ("vqvae", None, "looked up in pieces"),
    ],
)
def test_what_cannot_be_exported_says_why(tmp_path, name, part, why):
    run, _ = lively(name, tmp_path / "r")
    with pytest.raises(Refusal, match=why):
        onnx.export(run, tmp_path / "m.onnx", part)
    assert not (tmp_path / "m.onnx").exists()


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    run, _ = lively("gan", tmp_path / "r")
    monkeypatch.setattr(onnx, "NEEDED", ("onnx", "no_such_module"))
    with pytest.raises(Refusal, match=r"needs no_such_module.*likeness\[onnx\]|likeness\[onnx\]"):
        onnx.export(run, tmp_path / "m.onnx")


# Model cards

SCORES = [
    Score(
        "FID",
        31.25,
        low=29.0,
        high=33.5,
        n=1000,
        split="samples",
        network="inception",
        network_sha="abc123",
        better="lower",
    ),
    Score("FID", 4.5, of="held-out images", n=1000),
    Score("odd | name <b>", float("nan"), n=5, warnings=("too few",)),
]


def front(text: str) -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(text.split("---\n")[1])


def test_the_card_has_what_is_known(tmp_path):
    run, data = lively("ae", tmp_path / "r")
    (tmp_path / "r" / "samples").mkdir()
    (tmp_path / "r" / "samples" / "000000000000.png").write_bytes(b"a picture")
    save_scores(run.folder, SCORES)
    facts, _ = exporting.export(asked(run, data), tmp_path / "out" / "card.md")
    text = (tmp_path / "out" / "card.md").read_text()
    assert facts["card"] == str(tmp_path / "out" / "card.md")
    assert (
        tmp_path / "out" / "card-samples.png"
    ).read_bytes() == b"a picture" and "(card-samples.png)" in text
    head = front(text)
    assert (
        head["license"] == "unknown"
        and head["library_name"] == "likeness"
        and {"likeness", "ae"} <= set(head["tags"])
    )
    assert head["pipeline_tag"] == "image-feature-extraction"
    (metric,) = head["model-index"][0]["results"][0]["metrics"]
    assert (metric["name"], metric["value"]) == ("FID", 31.25)
    row = next(line for line in text.splitlines() if line.startswith("| FID"))
    assert [c.strip() for c in row.split(" | ")[1:4]] == ["31.25", "29.00 to 33.50", "lower"]
    assert "inception abc123" in row and "held-out images 4.50" in row
    assert "odd \\| name &lt;b>" in text and "refused: too few" in text
    assert "64: 48 to learn from, 16 held out" in text and "toy-1" in text and model_card.UNKNOWN in text
    assert f'likeness.open("{run.folder}")' in text


def test_nothing_is_invented(tmp_path):
    """The licence of a set is that of the lock table, or none; without data there is no number; without
    scores no metric."""
    run, _ = lively("ae", tmp_path / "r")
    run.config = replace(run.config, data=dict(source="fashion-mnist", fingerprint="f"))
    text = model_card.card(run, None, exporting.Exported("likeness", "pass"))
    assert (
        "MIT (Zalando SE)" in text
        and "not at hand" in text
        and "model-index" not in text
        and "Not scored yet" in text
    )
    run.config = replace(run.config, data=dict(source="/home/me/fashion-mnist", fingerprint="f"))
    assert "MIT" not in model_card.card(run, None, exporting.Exported("likeness", "pass"))
    changed = model_card.card(run, replace(toy(), fingerprint="g"), exporting.Exported("likeness", "pass"))
    assert "have changed since" in changed and "64" not in changed.split("## Data")[1].split("## ")[0]


def test_a_readme_of_somebody_else_is_left_alone(tmp_path):
    run, data = lively("ae", tmp_path / "r")
    (tmp_path / "README.md").write_text("# Mine\n")
    wrote = model_card.write(run, data, tmp_path / "m.onnx", exporting.Exported("onnx", "pass"))
    assert wrote.name == "m-README.md" and (tmp_path / "README.md").read_text() == "# Mine\n"
    again = model_card.write(run, data, tmp_path / "m.onnx", exporting.Exported("onnx", "other()"))
    assert again == wrote
    (tmp_path / "README.md").unlink()
    for code in ("first()", "second()"):
        wrote = model_card.write(run, data, tmp_path / "m.onnx", exporting.Exported("onnx", code))
        assert wrote.name == "README.md" and code in wrote.read_text()


def test_the_ending_decides_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--images", "64", "--size", "8", "--width", "8", "--no-report", "--json"]
    assert cli.main(["train", "ae", "shapes:40", "r", *flags]) == 0
    capsys.readouterr()
    assert cli.main(["export", "r", "card.md", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["card"] == "card.md" and "40: " in Path("card.md").read_text()
    for wrong, why in (
        (["m.pt"], "should end in"),
        (["out", "--part", "encode"], "--part is for an .onnx"),
        (["out"], "model.onnx"),
    ):
        assert cli.main(["export", "r", *wrong]) == 2 and why in capsys.readouterr().err
    needs_onnx()
    assert cli.main(["export", "r", "new/m.onnx"]) == 0
    assert (
        "decode, z -> image" in capsys.readouterr().out
        and "InferenceSession" in Path("new/README.md").read_text()
    )

"""U-Nets to diffusers and back: the same outputs there, the same weights again, and clear words where it
cannot be.

Where diffusers is installed (pip install diffusers) it is the judge; the other tests need the files alone.
"""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from likeness.core import NONE, BadData, Condition, Noise, Refusal, Spec, final
from likeness.models.ddpm import DDPM
from likeness.parts.denoisers import network
from likeness.parts.unet import Plan, UNet
from likeness.runs.diffusers import (
    CONFIG,
    INDEX,
    SCHEDULER,
    WEIGHTS,
    Facts,
    export,
    from_diffusers,
    named,
    obstacle,
    opened,
    to_diffusers,
)

PAPER = Plan(
    3, 6, (16, 32, 32), (False, True, False), blocks=2, groups=8, cosine_first=False, shift=1, pad=0, eps=1e-6
)
"""what the folders of the DDPM paper's own models say, but for size, and with a learnt variance"""
LAPTOP = Plan(1, 1, (16, 32), (False, True), blocks=1, groups=4, head=8)
PLANS = {
    "laptop": (LAPTOP, Facts(12)),
    "paper": (PAPER, Facts(16, beta="cosine", predicts="v", variance="learned", clip=False)),
}


def lively(plan: Plan, seed: int = 0) -> UNet:
    net, g = UNet(plan), torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=g) * (p[0].numel() ** -0.5 if p.ndim > 1 else 0.3)
    return net.requires_grad_(False)


def given(plan: Plan, size: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(4, plan.inside, size, size, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0, 7, 500, 999])


def written(folder: Path, plan: Plan = LAPTOP, facts: Facts = PLANS["laptop"][1]) -> Path:
    to_diffusers(lively(plan), facts, folder)
    return folder


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# Without diffusers


@pytest.mark.parametrize("name", PLANS)
def test_there_and_back_is_the_same(name, tmp_path):
    plan, facts = PLANS[name]
    net, (x, t) = lively(plan), given(plan, facts.size)
    to_diffusers(net, facts, tmp_path)
    again, back = from_diffusers(tmp_path)
    assert again.plan == plan and back == facts and torch.equal(again(x, t), net(x, t))
    assert json.loads((tmp_path / INDEX).read_text())["_class_name"] == "DDPMPipeline"


def test_every_weight_has_one_name_and_no_two_are_the_same_numbers():
    net = lively(PAPER)
    pieces = list(named(net))
    assert len({name for name, _ in pieces}) == len(pieces) and sum(p.numel() for _, p in pieces) == sum(
        p.numel() for p in net.parameters()
    )
    for i, (_, p) in enumerate(pieces):
        p.fill_(i)
    assert sorted({int(v) for p in net.parameters() for v in p.unique()}) == list(range(len(pieces)))


NAMES = """conv_in.weight time_embedding.linear_1.bias time_embedding.linear_2.weight down_blocks.0.resnets.0.norm1.weight
down_blocks.1.resnets.0.conv_shortcut.bias down_blocks.1.attentions.0.group_norm.weight down_blocks.1.attentions.0.to_q.weight
down_blocks.1.attentions.0.to_out.0.bias down_blocks.0.downsamplers.0.conv.weight mid_block.resnets.1.time_emb_proj.weight
mid_block.attentions.0.to_v.bias up_blocks.0.upsamplers.0.conv.weight up_blocks.1.resnets.1.conv2.weight conv_norm_out.weight conv_out.bias"""  # noqa: E501


def test_the_names_are_those_of_the_library(tmp_path):
    weights = load_file(written(tmp_path) / "unet" / WEIGHTS)
    assert set(NAMES.split()) <= weights.keys()
    assert weights["mid_block.resnets.1.time_emb_proj.weight"].shape == (32, 64) and weights[
        "down_blocks.1.attentions.0.to_q.weight"
    ].shape == (32, 32)


def test_parts_of_a_larger_weight_are_the_right_ones():
    """Queries, keys and values; and what blocks are told of the time, in the order in which an image meets
    them."""
    net = lively(LAPTOP)
    found, told, qkv = (
        dict(named(net)),
        net.told.weight.split([16, 32, 32, 32, 32, 32, 16, 16]),
        net.middle.attentions[0].heads.qkv.weight.split(32),
    )
    blocks = [
        f"{level}.resnets.{i}"
        for level, n in (
            ("down_blocks.0", 1),
            ("down_blocks.1", 1),
            ("mid_block", 2),
            *((f"up_blocks.{j}", 2) for j in (0, 1)),
        )
        for i in range(n)
    ]
    assert all(
        torch.equal(found[f"{block}.time_emb_proj.weight"], part)
        for block, part in zip(blocks, told, strict=True)
    )
    assert all(
        torch.equal(found[f"mid_block.attentions.0.to_{letter}.weight"], part)
        for letter, part in zip("qkv", qkv, strict=True)
    )


@pytest.mark.parametrize(
    "facts, words",
    [
        (Facts(12), ("linear", "epsilon", "fixed_small", True)),
        (
            Facts(12, beta="cosine", predicts="x0", variance="large", clip=False),
            ("squaredcos_cap_v2", "sample", "fixed_large", False),
        ),
        (Facts(12, predicts="v", variance="learned"), ("linear", "v_prediction", "learned_range", True)),
    ],
)
def test_the_words_are_those_of_the_library(facts, words, tmp_path):
    config = json.loads(
        (
            written(tmp_path, replace(LAPTOP, outside=2 if facts.variance == "learned" else 1), facts)
            / "scheduler"
            / SCHEDULER
        ).read_text()
    )
    assert (
        tuple(config[name] for name in ("beta_schedule", "prediction_type", "variance_type", "clip_sample"))
        == words
    )


def test_the_steps_are_spaced_as_ours(tmp_path):
    """The library's default is "leading", which never asks the network where all is noise."""
    assert (
        json.loads((written(tmp_path) / "scheduler" / SCHEDULER).read_text())["timestep_spacing"]
        == "trailing"
    )


def test_a_class_goes_into_a_bias(tmp_path):
    plan = replace(LAPTOP, labels=3)
    net, (x, t) = lively(plan), given(plan, 12)
    for y in (1, 3):
        to_diffusers(net, Facts(12), tmp_path, y=y)
        again, _ = from_diffusers(tmp_path)
        assert torch.allclose(
            again(x, t), net(x, t, Condition(torch.full((4,), NONE if y == 3 else y))), atol=1e-5
        )
        assert not torch.allclose(again(x, t), net(x, t, Condition(torch.full((4,), 2))), atol=1e-2)


def test_a_folder_of_one_level_and_old_names_is_read_too(tmp_path):
    old, new = tmp_path / "old", written(tmp_path / "new")
    old.mkdir()
    shutil.copy(new / "unet" / CONFIG, old)
    shutil.copy(new / "scheduler" / SCHEDULER, old)
    words = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(new / "unet" / WEIGHTS)
    for a, b in words.items():
        weights = {name.replace(f".{a}.", f".{b}."): p for name, p in weights.items()}
    save_file(weights, old / WEIGHTS)
    x, t = given(LAPTOP, 12)
    assert torch.equal(from_diffusers(old)[0](x, t), from_diffusers(new)[0](x, t))


@pytest.mark.parametrize(
    "net, facts, y, says",
    [
        (network("dit", Spec(1, 28), 0.25, 1, 0), Facts(28), None, "--net unet"),
        (UNet(replace(LAPTOP, times=2)), Facts(12), None, "2 times"),
        (UNet(LAPTOP), Facts(13), None, "--size 12"),
        (UNet(replace(LAPTOP, labels=3)), Facts(12), None, "0 to 2, or 3"),
        (UNet(replace(LAPTOP, labels=3)), Facts(12), 4, "0 to 2, or 3"),
        (UNet(LAPTOP), Facts(12), 1, "no classes"),
        (UNet(LAPTOP), Facts(12, steps=100), None, "1000 steps"),
        (UNet(LAPTOP), Facts(12, predicts="score"), None, "eps, x0, v"),
    ],
)
def test_what_cannot_go_there_is_refused_and_nothing_is_written(net, facts, y, says, tmp_path):
    with pytest.raises(Refusal, match=says):
        to_diffusers(net, facts, tmp_path / "out", y)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "size, options, reasons, again",
    [
        (16, dict(), ["--net patches"], "--net unet"),
        (
            25,
            dict(net="dit", predicts="eps", scale=0.5),
            ["--net dit", "25 pixels"],
            "--net unet --size 24 --scale 0.5 --predicts eps",
        ),
        (8, dict(T=100, beta="linear", steps=7), ["--T 100"], "--net unet --beta linear"),
        (
            50,
            dict(net="unet", variance="learned", dropout=0.1),
            ["50 pixels"],
            "--net unet --size 48 --dropout 0.1 --variance learned",
        ),
    ],
)
def test_what_to_type_is_what_can_be_exported(size, options, reasons, again, tmp_path):
    """The words of the refusal, typed: a model of these options goes there.  The same words are said when
    training begins."""
    model = DDPM(spec=Spec(1, size), **options)
    with pytest.raises(Refusal) as refused:
        export(model, tmp_path / "out")
    assert all(reason in str(refused.value) for reason in reasons) and str(refused.value).endswith(
        f"type: likeness train ddpm DATA RUN {again}"
    )
    assert obstacle(model) == str(refused.value) and not (tmp_path / "out").exists()
    words = again.split()
    typed = {word[2:]: value for word, value in zip(words[::2], words[1::2])}
    fitting = DDPM(
        spec=Spec(1, int(typed.pop("size", size))),
        **{k: float(v) if v[0].isdigit() else v for k, v in typed.items()},
    )
    assert obstacle(fitting) == ""
    export(fitting, tmp_path / "out")
    from_diffusers(tmp_path / "out")


@pytest.mark.parametrize("size", range(9, 70))
def test_the_size_that_is_named_can_be_exported(size):
    with torch.device("meta"):
        typed = re.search(r"--size (\d+)", obstacle(DDPM(spec=Spec(1, size))))
        fitting = int(typed[1]) if typed else size
        assert obstacle(DDPM(spec=Spec(1, fitting), net="unet")) == "" and abs(fitting - size) <= size / 4


def test_points_are_not_told_to_take_a_u_net():
    assert "none for points" in obstacle(DDPM(spec=Spec(2, 1, levels=0)))


@pytest.mark.parametrize(
    "values, says",
    [
        (dict(_class_name="UNet2DConditionModel"), "UNet2DModel"),
        (dict(act_fn="gelu"), "act_fn 'gelu'.*'silu'"),
        (dict(resnet_time_scale_shift="scale_shift"), "resnet_time_scale_shift"),
        (dict(num_class_embeds=10), "num_class_embeds 10"),
        (dict(time_embedding_type="fourier"), "positional"),
        (dict(down_block_types=["SkipDownBlock2D", "AttnDownBlock2D"]), "SkipDownBlock2D"),
        (dict(down_block_types=["DownBlock2D"]), "one for each"),
        (dict(down_block_types=7), "down_block_types 7"),
        (dict(up_block_types=["UpBlock2D", "UpBlock2D"]), "AttnUpBlock2D"),
        (dict(block_out_channels=[16, 30]), "divide"),
        (dict(attention_head_dim=5), "divide"),
        (dict(block_out_channels=[16, 10**9]), "1000000000"),
        (dict(block_out_channels="many"), "list"),
        (dict(layers_per_block=2.5), "layers_per_block 2.5"),
        (dict(norm_num_groups=None), "norm_num_groups None"),
        (dict(norm_eps="small"), "norm_eps 'small'"),
        (dict(sample_size=[12, 16]), "sample_size"),
        (dict(layers_per_block=2), "does not fit its config"),
        (dict(block_out_channels=[32, 32]), "does not fit its config"),
        (dict(out_channels=2), "2 channels"),
    ],
)
def test_a_network_that_is_none_of_ours_is_refused(values, says, tmp_path):
    change(written(tmp_path) / "unet" / CONFIG, **values)
    with pytest.raises(Refusal, match=says):
        from_diffusers(tmp_path)


@pytest.mark.parametrize(
    "values, says",
    [
        (dict(beta_schedule="sigmoid"), "sigmoid.*linear, squaredcos_cap_v2"),
        (dict(beta_end=0.012), "beta_end 0.012"),
        (dict(trained_betas=[0.1, 0.2]), "trained_betas"),
        (dict(num_train_timesteps=100), "1000 steps"),
        (dict(prediction_type="flow"), "prediction_type"),
        (dict(variance_type="learned_range"), "should be 2"),
    ],
)
def test_a_training_that_is_none_of_ours_is_refused(values, says, tmp_path):
    change(written(tmp_path) / "scheduler" / SCHEDULER, **values)
    with pytest.raises(Refusal, match=says):
        from_diffusers(tmp_path)


def test_pickled_weights_are_never_opened(tmp_path):
    inside = written(tmp_path) / "unet"
    (inside / WEIGHTS).rename(inside / "diffusion_pytorch_model.bin")
    with pytest.raises(Refusal, match="safe_serialization=True"):
        from_diffusers(tmp_path)


def test_damaged_files_are_named(tmp_path):
    for part in (f"unet/{WEIGHTS}", f"unet/{CONFIG}", f"scheduler/{SCHEDULER}"):
        path = written(tmp_path / "a") / part
        path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
        with pytest.raises(BadData, match=path.name):
            from_diffusers(tmp_path / "a")
        path.unlink()
        with pytest.raises(Refusal, match=f"there is no .*{path.name}"):
            from_diffusers(tmp_path / "a")
    with pytest.raises(Refusal, match="save_pretrained"):
        from_diffusers(tmp_path / "nothing")


# With diffusers


@pytest.fixture
def diffusers():
    return pytest.importorskip(
        "diffusers", reason="diffusers is not installed; pip install diffusers makes it the judge"
    )


@pytest.mark.parametrize("name", PLANS)
def test_there_the_outputs_are_the_same_and_images_can_be_drawn(name, tmp_path, diffusers):
    plan, facts = PLANS[name]
    net, (x, t) = lively(plan), given(plan, facts.size)
    to_diffusers(net, facts, tmp_path)
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    with torch.no_grad():
        want = pipeline.unet(x, t).sample
    assert torch.allclose(net(x, t), want, atol=1e-5 * float(want.abs().max()))
    scheduler = pipeline.scheduler.config
    assert (scheduler.beta_schedule, scheduler.prediction_type) == (
        ("linear", "epsilon") if name == "laptop" else ("squaredcos_cap_v2", "v_prediction")
    )
    assert scheduler.clip_sample is facts.clip and scheduler.num_train_timesteps == 1000
    images = pipeline(batch_size=2, num_inference_steps=3, output_type="np").images
    assert images.shape == (2, facts.size, facts.size, plan.inside)


class Same(Noise):
    """Noise in the order in which torch's generator gives it to a pipeline."""

    def __init__(self, n: int):
        super().__init__(range(n))
        self.generator = torch.Generator().manual_seed(1)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(len(self), *shape, generator=self.generator)


@pytest.mark.parametrize("steps", [20, 7])
def test_there_the_same_few_steps_are_taken_and_the_same_images_drawn(steps, tmp_path, diffusers):
    """With the same noise, also where the steps do not divide 1000; and the fake: what the library does where
    a folder does not say how they are spaced."""
    model = opened(written(tmp_path, facts=Facts(12, predicts="v")))
    model.sampler, model.steps = "ancestral", steps
    here = final(model.sample(Same(2)))

    def drawn_there() -> Tensor:
        pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path)
        pipeline.set_progress_bar_config(disable=True)
        images = pipeline(
            batch_size=2,
            num_inference_steps=steps,
            output_type="np",
            generator=torch.Generator().manual_seed(1),
        ).images
        return 2 * torch.as_tensor(images).permute(0, 3, 1, 2) - 1

    torch.testing.assert_close(drawn_there(), here, rtol=0, atol=1e-4)
    change(tmp_path / "scheduler" / SCHEDULER, timestep_spacing="leading")
    assert float((drawn_there() - here).abs().max()) > 0.1


@pytest.mark.parametrize("attends", [(True, False, True), (False, False, False)])
def test_a_network_made_there_is_the_same_here(attends, tmp_path, diffusers):
    down = ["AttnDownBlock2D" if a else "DownBlock2D" for a in attends]
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(16, 16, 32),
        down_block_types=down,
        up_block_types=[name.replace("Down", "Up") for name in reversed(down)],
        norm_num_groups=8,
        add_attention=any(attends),
    )
    diffusers.DDPMPipeline(net, diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")).save_pretrained(
        tmp_path
    )
    ours, facts = from_diffusers(tmp_path)
    x, t = given(ours.plan, 8)
    with torch.no_grad():
        want = net(x, t).sample
        assert torch.allclose(ours(x, t), want, atol=1e-5 * float(want.abs().max()))
    assert facts == Facts(8, beta="cosine")


@pytest.mark.parametrize(
    "values",
    [dict(act_fn="gelu"), dict(resnet_time_scale_shift="scale_shift"), dict(class_embed_type="timestep")],
)
def test_what_is_refused_is_indeed_another_network(values, tmp_path, diffusers):
    small = dict(
        sample_size=8,
        block_out_channels=(8, 8),
        down_block_types=["DownBlock2D"] * 2,
        up_block_types=["UpBlock2D"] * 2,
        norm_num_groups=4,
    )
    diffusers.DDPMPipeline(
        diffusers.UNet2DModel(**small, **values), diffusers.DDPMScheduler()
    ).save_pretrained(tmp_path)
    with pytest.raises(Refusal, match=next(iter(values))):
        from_diffusers(tmp_path)


def test_a_trained_run_is_a_pipeline_there_and_says_the_same(capsys, tmp_path, monkeypatch, diffusers):
    from likeness import api
    from likeness.cli import main

    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                "train",
                "ddpm",
                "digits",
                "runs/d",
                "--images",
                "2048",
                "--no-report",
                "--net",
                "unet",
                "--scale",
                "0.25",
                "--precision",
                "fp32",
            ]
        )
        == 0
    )
    assert main(["export", "runs/d", "-o", "out"]) == 0
    pipeline, model = diffusers.DDPMPipeline.from_pretrained("out"), api.open("runs/d").model
    x, t = (
        torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
        torch.tensor([1, 10, 500, 1000]),
    )
    with torch.no_grad():
        there = pipeline.unet(x, t - 1).sample
        assert torch.allclose(there, model.ask(x, t)[0], atol=1e-4), (there - model.ask(x, t)[0]).abs().max()
    drawn = pipeline(
        batch_size=2, num_inference_steps=10, output_type="np", generator=torch.Generator().manual_seed(0)
    ).images
    assert drawn.shape[0] == 2 and 0 <= drawn.min() < drawn.max() <= 1


def test_what_a_pipeline_cannot_do_that_a_conditional_model_can_is_said(tmp_path):
    """Without a label it draws of none: another network than with one."""
    torch.manual_seed(0)
    model = DDPM(Spec(1, 8, labels=3), net="unet", scale=0.25, conditional=True)
    torch.nn.init.normal_(model.network.label.weight)
    notes = {y: export(model, tmp_path / str(y), y) for y in (None, 1)}
    assert "knows 3 classes" in notes[None] and "--label CLASS" in notes[None]
    assert notes[1] == "the pipeline draws this class alone, of the 3 that the model knows"
    none, one = (load_file(tmp_path / str(y) / "unet" / WEIGHTS) for y in notes)
    bias = "time_embedding.linear_2.bias"
    assert torch.allclose(
        none[bias] - one[bias], model.network.label.weight[3] - model.network.label.weight[1], atol=1e-5
    )
    assert export(DDPM(Spec(1, 8, labels=3), net="unet", scale=0.25), tmp_path / "plain") == ""


def test_a_run_is_exported_and_opened_again(capsys, tmp_path, monkeypatch):
    from commands import ask, refused
    from likeness import api
    from likeness.cli import main

    monkeypatch.chdir(tmp_path)
    for model in ("ddpm", "edm"):
        assert (
            main(
                [
                    "train",
                    model,
                    "digits",
                    f"runs/{model}",
                    "--images",
                    "256",
                    "--no-report",
                    "--scale",
                    "0.25",
                    "--precision",
                    "fp32",
                ]
            )
            == 0
        )
    capsys.readouterr()
    found = ask(capsys, "export", "runs/ddpm", "-o", "out")
    run, again = api.open("runs/ddpm"), opened(tmp_path / found["path"])
    again.steps = run.model.steps = 4
    run.model.autoguidance = 1.0  # an export holds the network alone
    (*_, a), (*_, b) = run.model.sample(Noise(range(3))), again.sample(Noise(range(3)))
    assert torch.allclose(a, b, atol=1e-5)
    assert ("edm has no pipeline") in refused(
        capsys, "export", "runs/edm"
    ) and "is not class-conditional" in refused(capsys, "export", "runs/ddpm", "--label", "1")

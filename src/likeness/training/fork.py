"""A run that goes on from the state of another, with other options: a fork.

The folder of the fork begins as a copy of what the other run remembers (state, log, samples), with the
options that were typed in its config.json, and is then a run like any other: training resumes it.  What
decides the shape of the weights cannot change, and the data are the same; `fork.json` says where it comes
from."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from .. import models, storage
from ..core import BadData, Refusal, check_options, option_fields
from ..runs.folder import CONFIG, is_run
from ..runs.run import INSIDE, LOG, Config, Run, read_config

FILE = "fork.json"


def make(
    origin: Path, folder: Path, options: dict[str, Any], training: dict[str, Any], model: str = ""
) -> Config:
    """Fork a run into a new folder.  origin: its folder, for the newest good state, or RUN/state/NUMBER.
    options, training: what is to be otherwise.  model: which it must be of, if one was typed.

    Raises Refusal where the folder is taken, the state is gone, or the weights do not fit the options;
    nothing is left behind then."""
    source, state = (origin.parents[1], origin.name) if origin.parent.name == "state" else (origin, "")
    if is_run(folder):
        raise Refusal(
            f"{folder} holds a run already, and --from makes a new one; name another folder, or leave --from "
            "out to go on with this one."
        )
    was = read_config(source)
    if model not in ("", was.model) and not was.model.endswith(".py"):
        raise Refusal(f"{source} is a run of {was.model}, not of {model}; type: likeness train {was.model}")
    kind = models.load(str(source / was.model) if was.model.endswith(".py") else was.model)
    there = {f.name: f.default for f in option_fields(kind)} | was.options
    if options.get("optimizer", there.get("optimizer")) != there.get("optimizer"):
        raise Refusal(
            f"--optimizer {options['optimizer']}: {source} remembers what {there['optimizer']} has seen, "
            "which means nothing to another; leave it out, or train anew without --from."
        )
    config = replace(was, options=there | options, training=replace(was.training, **training))
    check_options("train", config.training)
    try:
        seen = _copy(source, folder, state, config)
        _refuse_misfit(source, folder, options)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    changed = {
        k: v for k, v in (options | training).items() if v != (was.options | asdict(was.training)).get(k)
    }
    about = dict(run=str(source.resolve()), seen=seen, changed=changed)
    storage.write(folder / FILE, json.dumps(about, indent=1, default=str).encode())
    return config


def fits(origin: Path, changes: dict[str, Any]) -> bool:
    """Whether a fork of a run may have these options and settings of training: those that leave the names and
    shapes of its weights as they are.  Both models are built, and nothing is read of the state or written."""
    was = read_config(origin)
    kind = models.load(str(origin / was.model) if was.model.endswith(".py") else was.model)
    there = {f.name: f.default for f in option_fields(kind)} | was.options
    options = {name: value for name, value in changes.items() if name in there}
    try:
        check_options("train", replace(was.training, **{k: v for k, v in changes.items() if k not in there}))
        with torch.no_grad():
            before, after = (replace(was, options=there | more).build(origin) for more in ({}, options))
    except (Refusal, BadData, TypeError, ValueError):
        return False
    return _shapes(before) == _shapes(after)


def _shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def _copy(source: Path, folder: Path, state: str, config: Config) -> int:
    """Everything that the fork remembers; returns the images seen."""
    storage.make(folder / "state")
    states = sorted((p.name for p in (source / "state").glob("*") if p.name.isdigit()), key=int)
    wanted = [state] if state else states[-2:]
    for name in wanted:
        if not (source / "state" / name).is_dir():
            kept = ", ".join(str(source / "state" / s) for s in states)
            raise Refusal(f"{source} keeps no state {name}; it keeps: {kept or 'none yet'}.")
        shutil.copytree(source / "state" / name, folder / "state" / name)
    newest = storage.newest(folder / "state")
    if newest is None:
        raise Refusal(f"{source} has no state yet; train it first.")
    seen = int(newest[1]["seen"])
    for path in sorted((source / "samples").glob("*.png")):
        if path.stem.isdigit() and int(path.stem) <= seen:
            storage.make(folder / "samples")
            shutil.copyfile(path, folder / "samples" / path.name)
    if (source / LOG).exists():
        shutil.copyfile(source / LOG, folder / LOG)  # of which resuming drops what comes later
    if config.model.endswith(".py"):
        shutil.copyfile(source / config.model, folder / config.model)
    if (source / INSIDE).is_dir():
        shutil.copytree(source / INSIDE, folder / INSIDE)
    storage.write(folder / CONFIG, json.dumps(asdict(config), indent=2).encode())
    return seen


def _refuse_misfit(source: Path, folder: Path, options: dict[str, Any]) -> None:
    try:
        with torch.no_grad():
            Run.open(folder)
    except BadData as misfit:
        typed = ", ".join(f"--{name.replace('_', '-')}" for name in options) or "these options"
        raise Refusal(
            f"the weights of {source} do not fit a model with {typed} ({misfit}); a fork may change what "
            "does not change the networks; train a new run for that."
        ) from None

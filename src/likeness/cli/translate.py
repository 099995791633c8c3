"""The verb that puts photos through a run from image to image.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import outline
from .arguments import Parser, common, count, on_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..api import Trained
    from ..data.photos import Unused
    from ..inference.translate import Done, Translation

PAGE = "before-after.png"
NAMED = 5
"""photos that the command in a recipe names"""


def translate(argv: list[str]) -> int:
    """translate RUN IMAGES...: photos of any size through a model from image to image: pix2pix, cyclegan,
    superres, faststyle, denoisers of pairs"""
    args, [(run, live)] = on_runs(argv, _parser(), data=False)

    from ..inference import translate as work
    from ..reports import terminal

    folder, began = _folder(args, run), time.monotonic()
    typed = dict(back=args["back"], size=args["size"] or 0, mask=args["mask"], seed=args["seed"])
    with terminal.stages("translate", args["json"]) as notify:
        able, found = run.translator(args["images"], **typed, **live)
        work.outside(folder, found)
        recipe = run.translation_recipe(command=shortened(argv, args["images"]), **live)

        def tell(number: int, share: float) -> None:
            notify(f"{len(found)} photo{'s' * (len(found) > 1)}", (number + share) / len(found))

        steps = work.through(able, found, recipe, folder, args["format"], tell)
        results, skipped = _collected(steps, len(found), folder)
    if not results:
        raise work.nothing(args["images"], skipped)
    sheet = _page(results, recipe, folder)
    text = "\n".join(_lines(results, skipped, folder, sheet))
    terminal.result(_summary(results, skipped, recipe, folder, sheet, began), args["json"], text)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "translate",
        outline.about("inference.translate"),
        "RUN IMAGES... [-o folder/] [--back] [--size N] [--format png] [options]",
    )
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument(
        "images", metavar="IMAGES", nargs="*", help="photos: files, folders of them, archives, arrays"
    )
    parser.add_argument(
        "--back", action="store_true", help="from B to A, where the model has learnt that as well (cyclegan)"
    )
    parser.add_argument(
        "--size",
        type=count,
        metavar="N",
        help="scale photos first, so that their short side has N pixels, as training images are scaled to "
        "the --size of a run [as they are]",
    )
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="of a run with --task inpaint: a picture of the photo's size, white where it is to be filled in "
        "[where the photo is transparent]",
    )
    which = "|".join(outline.value("inference.translate", "FORMATS"))
    parser.add_argument(
        "--format", metavar=which, default="same", help="kind of files to write [that of the photo, else png]"
    )
    helps = dict(
        seed="random seed of what a denoiser draws",
        o="output folder [RUN/translations]; nothing is overwritten",
    )
    common(parser, "--seed", "-o", "--raw", "--json", **helps)
    return parser


def _folder(args: dict[str, Any], run: Trained) -> Path:
    """Where results go.  Raises Refusal for that, for a format that is not written, and where no photo was
    named."""
    from ..core import Refusal
    from ..inference import translate as work

    if args["format"] not in work.FORMATS:
        raise Refusal(f"--format {args['format']} is none of {', '.join(work.FORMATS)}.")
    if not args["images"]:
        raise Refusal(
            f"no photos were named; type likeness translate {args['run'][0]} photo.jpg, or a folder of them."
        )
    folder: Path = args["o"] or run.folder / "translations"
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"-o {folder} is a file; name a folder.")
    return folder


def shortened(argv: list[str], images: list[str]) -> str:
    """The command as it was typed, of thousands of photos the first NAMED: it stands in the file of each."""
    out, left, skipped, at = ["likeness", "translate"], list(images), 0, 0
    for before, word in zip(["", *argv], argv):
        named = left[:1] == [word]
        left = left[named:]
        if not named or len(images) - len(left) <= NAMED or before.startswith("-"):
            out.append(shlex.quote(word))
            continue
        skipped, at = skipped + 1, at or len(out)
    return " ".join([*out[:at], f"... and {skipped:,} more", *out[at:]] if skipped else out)


def _collected(steps: Iterator[Any], many: int, folder: Path) -> tuple[list[Any], list[Unused]]:
    """Results without the pixels of their files, and what was skipped, each told of as it comes."""
    from ..data.photos import Unused
    from ..reports import terminal

    results, skipped, noted = list[Any](), list[Unused](), set[str]()
    try:
        for at in steps:
            if isinstance(at, Unused):
                skipped.append(at)
                terminal.say(f"note: {at.name} is skipped ({at.reason}{at.detail and ': '}{at.detail})")
                continue
            results.append(_small(at))
            for note in getattr(at, "notes", ()):
                kind = re.sub(r"\d[\d,.]*", "", note)
                if kind not in noted:
                    terminal.say(f"note: {at.name}: {note}")
                noted.add(kind)
            del at  # or it is held while the next one is computed
    except KeyboardInterrupt:
        terminal.say(
            f"interrupted: {len(results)} of {many} photos are done, in {folder}; the same command goes on "
            "with the others"
        )
        raise
    return results, skipped


def _page(results: list[Any], recipe: dict[str, Any], folder: Path) -> Path | None:
    """The picture of before and after; where it lies, if anything is new."""
    from ..inference import translate as work

    made = [at for at in results if isinstance(at, work.Translation)]
    if not made:
        return None
    names = [at.name for at in made[: work.ROWS]]
    return work.numbered(folder / PAGE, work.page(made), recipe | dict(photos=names))


def _summary(
    results: list[Any],
    skipped: list[Unused],
    recipe: dict[str, Any],
    folder: Path,
    sheet: Path | None,
    began: float,
) -> dict[str, Any]:
    """What --json prints."""
    return dict(
        {k: v for k, v in recipe.items() if k != "command"},
        folder=str(folder),
        page=str(sheet) if sheet else None,
        seconds=round(time.monotonic() - began, 2),
        images=[_row(at) for at in results],
        skipped=[dict(name=at.name, reason=at.reason, detail=at.detail) for at in skipped],
    )


def _small(at: Translation | Done) -> Any:
    """A result without the pixels of its file, which lie on the disk: of a thousand photos they are
    gigabytes."""
    from ..inference.translate import Translation, reduced

    return reduced(at) if isinstance(at, Translation) else at


def _row(at: Any) -> dict[str, Any]:
    from ..inference.translate import Translation

    own = {k: at.recipe[k] for k in ("tiles", "disagreement", "precision") if k in at.recipe}
    if isinstance(at, Translation):
        return dict(name=at.name, path=str(at.path), new=True, notes=list(at.notes), **own)
    return dict(name=at.name, path=str(at.path), new=False, notes=[], **own)


def _lines(results: list[Any], skipped: list[Unused], folder: Path, sheet: Path | None) -> list[str]:
    from ..inference.translate import Done

    lines = [f"{at.name}: {at.path}{' (was there already)' * isinstance(at, Done)}" for at in results[:20]]
    lines += [f"... and {len(results) - 20} more in {folder}"] if len(results) > 20 else []
    lines += [f"{len(skipped)} skipped, with the reasons above"] if skipped else []
    return [*lines, *([f"before and after: {sheet}"] if sheet else [])]

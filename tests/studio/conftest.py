"""A studio over a few tiny runs, made once, and Chromium to look at it with."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import likeness
from likeness import api

CHROMIUM = os.environ.get("LIKENESS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SIZE = dict(width=1280, height=800)


class Served(NamedTuple):
    """A studio that runs."""

    root: Path
    port: int
    link: str
    """with the token"""
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def start(root: Path, *more: str) -> Served:
    """`likeness studio`, as somebody types it."""
    code = [sys.executable, "-m", "likeness", "studio", str(root), "--no-browser", *more]
    source = str(Path(likeness.__path__[0]).parent)
    env = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(code, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    line = process.stdout.readline()
    link = line.rpartition(" ")[2].strip()
    assert link.startswith("http://"), line
    return Served(root, int(link.split(":")[2].split("/")[0]), link, process)


def end(served: Served) -> None:
    served.process.terminate()
    served.process.wait(20)


def tiny(root: Path) -> None:
    """Runs of the families that screens ask: each a second or two of training."""
    import torch

    torch.set_num_threads(1)
    how: dict[str, Any] = dict(images=256, progress=False, precision="fp32")
    api.train("vae", "digits", root / "vae-digits", latent=2, width=8, size=8, batch=32, **how)
    api.train("pixelcnn", "digits", root / "pixelcnn-digits", width=8, depth=1, size=8, batch=32, **how)
    api.train("gan", "digits", root / "gan-digits", latent=8, width=8, size=8, batch=32, **how)
    api.train("ddpm", "digits", root / "ddpm-digits", scale=0.25, steps=3, size=8, batch=32, **how)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:
    """Of a test that fails with a page of a fixture, what that page shows."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.failed and page is not None:
        report.sections.append(("page", seen(page)))
    return report


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs; look, do not change."""
    root = tmp_path_factory.mktemp("studio") / "runs"
    os.environ.setdefault("LIKENESS_CACHE", str(root.parent / "cache"))
    tiny(root)
    return root


@pytest.fixture(scope="session")
def studio(runs: Path) -> Iterator[Served]:
    served = start(runs)
    yield served
    end(served)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if not CHROMIUM:
        pytest.skip("there is no Chromium; install it (Debian: chromium), or name it by LIKENESS_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def opened(browser: Any, served: Served, **how: Any) -> Iterator[Any]:
    """A page of the studio in a context of its own.  What would leave this machine is blocked, and fails the
    test at its end, as do violations of the policy, errors of the page and those on its console; page.faults
    is the list, from which a test may remove what it expects."""
    context = browser.new_context(**(dict(viewport=SIZE) | how))
    faults = list[str]()

    def route(asked: Any) -> None:
        if asked.request.url.startswith(
            (served.address, f"http://localhost:{served.port}", "data:", "blob:")
        ):
            asked.continue_()
        else:
            faults.append(f"asked for {asked.request.url}")
            asked.abort()

    context.route("**/*", route)
    page = context.new_page()
    page.faults = faults
    page.set_default_timeout(15_000)
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda m: faults.append(f"console: {m.text}") if m.type == "error" else None)
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation', "
        "e => console.error('CSP: ' + e.violatedDirective + ' ' + e.blockedURI))"
    )
    page.goto(served.link)
    page.locator("html[data-ready=yes]").wait_for(state="attached")
    try:
        yield page
        assert faults == []
    except BaseException:
        print(seen(page))
        raise
    finally:
        context.close()


def seen(page: Any) -> str:
    """What a page shows and knows: printed where a test fails, since a page that hangs says nothing else."""
    try:
        facts = page.evaluate(
            """() => ({
                address: location.href, text: document.body.innerText.slice(0, 3000),
                run: window.studio?.run?.path ?? null, screen: window.studio?.screen?.id ?? null,
                runs: window.studio?.runs.map((r) => [r.path, r.state, r.answers.length]) ?? null,
                stats: window.studio?.stats ?? null, connected: Boolean(window.studio?.wire.socket),
                open: [...(window.studio?.wire.questions.values() ?? [])].map((q) => [q.id, q.key]),
                recalls: [...(window.studio?.wire.recalls.keys() ?? [])],
                steps: [...document.querySelectorAll("[data-step]")].map((e) => e.dataset.step),
            })"""
        )
        return "the page, at the end:\n" + "\n".join(f"{name}: {value}" for name, value in facts.items())
    except Exception as error:  # it may be closed, or busy for ever
        return f"the page cannot be asked: {error}"


@pytest.fixture
def page(browser: Any, studio: Served) -> Iterator[Any]:
    with opened(browser, studio) as one:
        yield one


@pytest.fixture
def axe() -> Any:
    """axe(page): the violations of WCAG 2 A and AA that axe-core sees, each in a line."""
    module = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )

    def look(page: Any) -> list[str]:
        # axe is put into the page by the debugger, which the policy of the page does not bind
        result = module.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
        return [
            f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:200]}" for v in result.response["violations"]
        ]

    return look


def until(condition: Any, seconds: float = 60) -> Any:
    """What the condition returns as soon as that is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value

"""Commands and code of the pages are run in order and must print the output that the page shows.

A ```console block holds commands after `$` with their output, a ```pycon block a Python session. Three dots
stand for the rest of a line. White space and bars are ignored, and a number that the command line prints may
differ by 20%, because ranks may differ between machines.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "docs/tutorial.md", "docs/surgery.md"]
BLOCK = re.compile(r"^```(console|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder with the examples; output is 100 columns wide."""
    shutil.copytree(ROOT / "examples" / "digits", tmp_path / "examples" / "digits")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_the_page_shows_the_actual_output(page: str, here: Path) -> None:  # noqa: ARG001 - sets the folder
    names: dict[str, object] = {}
    blocks = list(BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")))
    assert blocks
    for block in blocks:
        kind, text = block.groups()
        for shown, wanted, printed in commands(text) if kind == "console" else session(text, names, page):
            assert same(wanted, printed), f"{page}: {shown}\n--- shows\n{wanted}\n--- prints\n{printed}"


def same(wanted: str, printed: str) -> bool:
    """Whether two outputs have the same lines."""
    ours, theirs = wanted.strip().splitlines(), printed.strip().splitlines()
    return len(ours) == len(theirs) and all(map(same_line, ours, theirs))


def same_line(wanted: str, printed: str) -> bool:
    """Whether two lines have equal words, and numbers that are close."""
    start, dots, _ = wanted.partition("...")
    ours, theirs = words(start), words(printed)
    if dots:
        theirs = theirs[: len(ours)]
    return len(ours) == len(theirs) and all(map(alike, ours, theirs))


def words(line: str) -> list[str]:
    """The words of a line without its bars and rules."""
    return re.sub(r"[─█▏▎▍▌▋▊▉]", " ", line).split()


def alike(wanted: str, printed: str) -> bool:
    """Whether two words are equal, or both numbers and close to each other."""
    try:
        return float(printed) == pytest.approx(float(wanted), rel=0.2, abs=1e-9)
    except ValueError:
        return wanted == printed


@pytest.mark.parametrize(
    ("wanted", "printed", "agree"),
    [
        ("MACs  203 M", "MACs 210 M", True),
        ("MACs  203 M", "MACs 103 M", False),
        ("kept ██▌ 40", "kept █ 41", True),
        ("verdict: identical", "verdict: different", False),
        ("latency ...", "latency 3 ms", True),
        ("latency ...", "speed 3 ms", False),
        ("one\ntwo", "one", False),
    ],
)
def test_same_allows_only_small_differences(wanted: str, printed: str, agree: bool) -> None:
    assert same(wanted, printed) is agree


def commands(text: str) -> Iterator[tuple[str, str, str]]:
    """Each command, the output that the page shows, and the actual output."""
    for part in re.split(r"^\$ ", text.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        line, _, wanted = part.partition("\n")
        program, *arguments = shlex.split(line)
        assert program == "modelsurgeon", f"only modelsurgeon is run here, not {program}"
        done = subprocess.run(
            [sys.executable, "-m", "modelsurgeon_cli", *arguments],
            capture_output=True, text=True, check=False, env=dict(os.environ),
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        yield line, wanted, done.stdout


def session(text: str, names: dict[str, object], page: str) -> Iterator[tuple[str, str, str]]:
    """The whole session, run by doctest; its report is empty if the outputs agree."""
    test = doctest.DocTestParser().get_doctest(text, names, page, page, 0)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=LOOSE).run(test, out=report.append, clear_globs=False)
    names.update(test.globs)
    yield text, "", "".join(report)


@pytest.mark.parametrize(
    "page",
    [*PAGES, "CONTRIBUTING.md", "docs/rules.md", "docs/design.md", "docs/methods.md", "docs/vocabulary.md"],
)
def test_link_targets_exist(page: str) -> None:
    file = ROOT / page
    prose = FENCED.sub("", file.read_text(encoding="utf-8"))
    targets = LINK.findall(prose)
    assert not [target for target in targets if not (file.parent / target).exists()]

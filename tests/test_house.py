"""House rules beyond the linter: documentation, portability, and the wheel."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelsurgeon as ms
from modelsurgeon.factorize import METHODS

ROOT = Path(__file__).parents[1]
TEXT = {"", ".py", ".md", ".toml", ".txt", ".json", ".cfg", ".yml", ".yaml"}
# The brackets keep a pattern from matching itself.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.$}])/(?:wor[k]|hom[e]|roo[t]|User[s])/\w"),
    "a package registry": re.compile(r"py[p]i|python[h]osted|pytorch\.org/[w]hl", re.IGNORECASE),
    "an unfinished thought": re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X])\b"),
}
NAMES = re.compile(r"(?:^|_)(?:util|helper|manager|misc|common)s?$|^base$")


def tracked() -> list[Path]:
    """Every file that git tracks or doesn't ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout: what belongs to the tree is unknown")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def findings(text: str) -> Iterator[str]:
    for what, pattern in FORBIDDEN.items():
        for match in pattern.finditer(text):
            yield f"{what}: {match.group()!r}"


def test_no_file_has_forbidden_text() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {finding}"
        for path in tracked()
        if path.suffix in TEXT
        for finding in findings(path.read_text(encoding="utf-8"))
    ]
    assert not found


@pytest.mark.parametrize("drawkcab", ["em/emoh/ ees", "gro.ipyp i- pip", "retal ODOT #"])
def test_forbidden_text_is_found(drawkcab: str) -> None:
    assert list(findings(drawkcab[::-1]))


def test_no_module_has_a_vague_name() -> None:
    modules = [*(ROOT / "modelsurgeon").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]
    assert modules
    assert not [path.name for path in modules if NAMES.search(path.stem)]


def test_the_example_is_small() -> None:
    """The model and data are less than 4 MB; there are no notebooks."""
    assert sum(path.stat().st_size for path in (ROOT / "examples" / "digits").iterdir()) < 4e6
    assert not [path.name for path in tracked() if path.suffix == ".ipynb"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("page", ["README.md", "docs/vocabulary.md"])
def test_every_method_is_documented(method: str, page: str) -> None:
    assert f"`{method}`" in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_section_and_a_cost(method: str) -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert f"\n## `{method}`\n" in text
    assert f"\n| `{method}` |" in text


@pytest.mark.parametrize("name", sorted(set(ms.__all__) - {"__version__"}))
def test_every_public_name_has_a_docstring(name: str) -> None:
    assert (getattr(ms, name).__doc__ or "").strip()


def test_the_changelog_has_the_version_or_unreleased() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in text or f"## [{ms.__version__}]" in text


def test_every_dependency_is_pinned() -> None:
    """So a new installation gets the tested versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["torch"],
        *project["dependency-groups"]["dev"],
    ]
    pins = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert {re.split(r"[<>=\[ ]", each)[0] for each in asked} <= set(pins)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built by the build backend."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_only_the_two_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"modelsurgeon", "modelsurgeon_cli", f"modelsurgeon-{ms.__version__}.dist-info"}
    assert {"modelsurgeon/py.typed", "modelsurgeon_cli/__main__.py"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "modelsurgeon").rglob("*.py")}
    assert sources <= set(names)


def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """The packages are imported from the wheel, not the checkout, and inspect the example's model."""
    code = (
        f"import sys; sys.path.insert(0, {str(wheel)!r})\n"
        "import modelsurgeon, modelsurgeon_cli\n"
        f"assert modelsurgeon.__file__.startswith({str(wheel)!r}), modelsurgeon.__file__\n"
        f"assert modelsurgeon_cli.__file__.startswith({str(wheel)!r})\n"
        "sys.exit(modelsurgeon_cli.main(sys.argv[1:]))"
    )
    model = ROOT / "examples" / "digits" / "model.onnx"
    done = subprocess.run(
        [sys.executable, "-c", code, "info", str(model)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "trunk.3" in done.stdout

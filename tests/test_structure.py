"""House rules on the structure: packages, names, and functions that are registered on import.

Which package may import which is checked by the import contracts in pyproject.toml.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "modelsurgeon"
MAX_FILES = 15  # per folder, without __init__.py
PACKAGES = sorted(path.parent for path in LIBRARY.rglob("__init__.py"))


def trees(folder: Path) -> Iterator[ast.Module]:
    """Every module below a folder, parsed."""
    for path in sorted(folder.rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("root", [LIBRARY, ROOT / "cli", ROOT / "tests"], ids=lambda root: root.name)
def test_no_folder_has_more_than_fifteen_files(root: Path) -> None:
    counts = Counter(path.parent for path in root.rglob("*.py") if path.name != "__init__.py")
    assert counts
    assert not {str(folder): count for folder, count in counts.items() if count > MAX_FILES}


def test_every_folder_of_the_library_is_a_package() -> None:
    assert {path.parent for path in LIBRARY.rglob("*.py")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_has_a_one_line_summary(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    first, *rest = text.splitlines()
    assert first.endswith((".", ":"))
    assert not rest or not rest[0]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_module_has_the_name_of_a_function_of_its_package(package: Path) -> None:
    """Importing such a module would hide the function."""
    found = import_module(".".join(package.relative_to(ROOT).parts))
    modules = {module.name for module in iter_modules([str(package)])}
    shared = [getattr(found, name) for name in getattr(found, "__all__", ()) if name in modules]
    assert all(isinstance(value, ModuleType) for value in shared)


def test_a_class_name_is_used_once() -> None:
    names = Counter(
        node.name for tree in trees(LIBRARY) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    assert names
    assert not {name: count for name, count in names.items() if count > 1}


@pytest.mark.parametrize(
    ("package", "registry", "fewest"),
    [
        ("modelsurgeon.onnx.costs", "registry.COSTS", 320),
        ("modelsurgeon.onnx.lint", "registry.RULES", 24),
        ("modelsurgeon.factorize", "METHODS", 7),
    ],
)
def test_importing_a_package_registers_all_functions(package: str, registry: str, fewest: int) -> None:
    """A missing import would be silent: operators would count as unknown, rules would not run."""
    code = f"""
from importlib import import_module
from pkgutil import iter_modules
import {package} as package
before = len(package.{registry})
for module in iter_modules(package.__path__):
    import_module(f"{{package.__name__}}.{{module.name}}")
print(before, len(package.{registry}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before == after
    assert before >= fewest


def test_the_paths_of_the_design_page_exist() -> None:
    """All paths in the table `I want to change | open` exist; the tree names the outer packages."""
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| .+ \| (.+) \|$", page.partition("| I want to change | open |")[2].partition("\n\n")[0], re.M
    )
    paths = [path for row in rows for path in re.findall(r"`([^`]+)`", row)]
    folders = [path for path in paths if path.endswith("/")]
    assert len(rows) > 20 and folders
    places = [ROOT, LIBRARY, *(LIBRARY / folder for folder in folders)]
    assert not [path for path in paths if not any((place / path).exists() for place in places)]
    tree = page.partition("```\n")[2].partition("```")[0]
    named = set(re.findall(r"(\w+)/", tree))
    assert {package.name for package in PACKAGES if package.parent in (LIBRARY, LIBRARY / "onnx")} <= named

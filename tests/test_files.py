"""Atomic replacement of files, and comparison of paths."""

import errno
import os
import stat
from pathlib import Path

import pytest

from modelsurgeon.errors import Unwritable
from modelsurgeon.files import replacing, same_file


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def test_the_target_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == tmp_path
    assert target.read_text() == "new"
    assert names(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, OSError, SystemExit])
@pytest.mark.parametrize("existed", [True, False])
def test_any_failure_keeps_the_old_file(tmp_path: Path, failure: type[BaseException], existed: bool) -> None:
    target = tmp_path / "out.bin"
    if existed:
        target.write_text("old")
    with pytest.raises(failure, match="stop"), replacing(target) as temporary:
        temporary.write_text("half")
        raise failure("stop")
    assert names(tmp_path) == (["out.bin"] if existed else [])
    assert not existed or target.read_text() == "old"


def test_permissions_are_the_default_or_those_of_the_old_file(tmp_path: Path) -> None:
    plain, target = tmp_path / "plain", tmp_path / "out"
    plain.touch()
    for mode in (stat.S_IMODE(plain.stat().st_mode), 0o640):
        with replacing(target) as temporary:
            temporary.touch()
        assert stat.S_IMODE(target.stat().st_mode) == mode
        target.chmod(0o640)


def test_a_symlink_is_kept(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real" / "file")
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "new"


def test_a_folder_as_target_raises(tmp_path: Path) -> None:
    with pytest.raises(Unwritable, match=r"is a folder: name a file in it"), replacing(tmp_path):
        pass


def test_a_missing_folder_raises(tmp_path: Path) -> None:
    with (
        pytest.raises(Unwritable, match=r"gone doesn't exist: make it first"),
        replacing(tmp_path / "gone" / "out"),
    ):
        pass


def test_a_file_in_place_of_the_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(Unwritable, match=r"can't write in .*file, Not a directory"),
        replacing(tmp_path / "file" / "out"),
    ):
        pass


def test_a_full_disk_raises(tmp_path: Path) -> None:
    with pytest.raises(Unwritable, match=r"out wasn't written, No space left"), replacing(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_very_long_name(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250)
    with replacing(target) as temporary:
        temporary.touch()
    assert target.exists()


def test_same_file_resolves_links_and_dots(tmp_path: Path) -> None:
    file, link, hard = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    file.touch()
    link.symlink_to(file)
    os.link(file, hard)
    assert same_file(file, link)
    assert same_file(file, hard)
    assert same_file(file, tmp_path / "." / "a")
    assert not same_file(file, tmp_path / "d")
    assert same_file(tmp_path / "d", tmp_path / "." / "d")

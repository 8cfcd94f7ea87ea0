"""Atomic replacement of files, and comparison of paths."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modelsurgeon.errors import Unwritable
from modelsurgeon.files import is_stdout, path_for_fraction, replacing, same_file


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


def make_device(folder: Path, minor: int) -> Path:
    """A device of our own: 1:3 is that of /dev/null, 1:7 that of /dev/full."""
    place = folder / f"device{minor}"
    try:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        place.open("wb").close()
    except OSError:
        pytest.skip("devices can't be made here")
    return place


def test_a_device_is_written_and_never_replaced(tmp_path: Path) -> None:
    device, link = make_device(tmp_path, 3), tmp_path / "link"
    link.symlink_to(device.name)
    for path in (device, link):
        with replacing(path) as temporary:
            temporary.write_text("new")
            assert temporary.parent != tmp_path
        assert stat.S_ISCHR(device.stat().st_mode)
    assert link.is_symlink()
    assert sorted(names(tmp_path)) == [device.name, "link"]


def test_a_full_device_is_one_line(tmp_path: Path) -> None:
    device = make_device(tmp_path, 7)
    with pytest.raises(Unwritable, match=r"wasn't written, No space left"), replacing(device) as temporary:
        temporary.write_text("new")
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_pipe_gets_all_or_nothing(tmp_path: Path) -> None:
    pipe, content = tmp_path / "pipe", b"x" * 200_000
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="stop"), replacing(pipe) as temporary:
        temporary.write_bytes(b"half")
        raise ValueError("stop")
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(pipe.read_bytes)
        with replacing(pipe) as temporary:
            temporary.write_bytes(content)
        assert reader.result(timeout=10) == content
    assert pipe.is_fifo()


def test_a_pipe_that_its_reader_has_closed_is_one_line() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with (
            pytest.raises(Unwritable, match="its reader has closed it"),
            replacing(f"/dev/fd/{writer}") as temporary,
        ):
            temporary.write_bytes(b"x" * 200_000)
    finally:
        os.close(writer)


@pytest.mark.parametrize("path", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_stdout_is_appended_to(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with replacing(path) as temporary:
        temporary.write_text("content\n")
    print("after")
    assert capfd.readouterr() == ("before\ncontent\nafter\n", "")
    assert is_stdout(path)


def test_a_descriptor_of_a_file_keeps_what_the_file_holds(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("a") as file:
        file.write("first\n")
        file.flush()
        with replacing(f"/dev/fd/{file.fileno()}") as temporary:
            temporary.write_text("second\n")
    assert log.read_text() == "first\nsecond\n"


def test_a_closed_descriptor_is_one_line() -> None:
    with pytest.raises(Unwritable, match="can't be written"), replacing("/dev/fd/987"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_the_old_file_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    os.chown(target, 12345, 54321)
    target.chmod(0o640)
    with replacing(target) as temporary:
        temporary.write_text("new")
    status = target.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 54321, 0o640)


def test_devices_and_pipes_keep_their_name_in_a_sweep(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert path_for_fraction(tmp_path / "pipe", 0.5) == tmp_path / "pipe"
    assert path_for_fraction("-", 0.5) == Path("-")

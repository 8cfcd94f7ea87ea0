"""Samples: batching of arrays, errors, noise, and the validation split."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from modelsurgeon.data import Batches, Input, batches, noise, read, split
from modelsurgeon.data.samples import evenly_spaced, is_validation, train_and_validation
from modelsurgeon.errors import BadData, UnknownShape

F32, F64, I64 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)


def given_input(*shape: int | None, name: str = "x", dtype: DTypeLike = F32) -> Input:
    return Input(name=name, dtype=np.dtype(dtype), shape=shape)


IMAGE = given_input(1, 3, 4, 4)
OPEN = given_input(None, 3)


def images(count: int, *rest: int, dtype: DTypeLike = F32) -> np.ndarray:
    return np.arange(count * int(np.prod(rest)), dtype=dtype).reshape(count, *rest)


def npz(folder: Path, name: str = "data.npz", **arrays: np.ndarray) -> Path:
    np.savez(folder / name, **arrays)
    return folder / name


def shapes(found: Batches, name: str = "x") -> list[tuple[int, ...]]:
    return [feed[name].shape for feed in found]


# Batching


def test_a_fixed_batch_drops_the_rest_with_a_note(tmp_path: Path) -> None:
    found = read(npz(tmp_path, x=images(10, 3)), [given_input(4, 3)])
    assert shapes(found) == [(4, 3), (4, 3)]
    assert (found.samples, len(found), found.kind) == (8, 2, "data")
    assert found.note == "2 samples left over: they don't fill a batch of 4"


def test_an_open_batch_is_1_by_default(tmp_path: Path) -> None:
    path = npz(tmp_path, x=images(5, 3))
    assert shapes(read(path, [OPEN])) == [(1, 3)] * 5
    found = read(path, [OPEN], batch=2)
    assert shapes(found) == [(2, 3), (2, 3), (1, 3)]
    assert (found.samples, found.note) == (5, "")


@given(
    lengths=st.lists(st.integers(0, 7), min_size=1, max_size=4),
    batch=st.integers(1, 5),
    fixed=st.booleans(),
)
def test_batches_span_files(
    lengths: list[int], batch: int, fixed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    total = sum(lengths)
    if total < (batch if fixed else 1):
        return
    folder, whole = tmp_path_factory.mktemp("data"), images(total, 2)
    for number, part in enumerate(np.split(whole, np.cumsum(lengths)[:-1])):
        npz(folder, f"{number}.npz", x=part)
    found = read(folder, [given_input(batch if fixed else None, 2)], batch=None if fixed else batch)
    joined = np.concatenate([feed["x"] for feed in found])
    np.testing.assert_array_equal(joined, whole[: found.samples])
    assert total - found.samples == (total % batch if fixed else 0)
    assert len(list(found)) == len(found)


def test_batches_can_be_iterated_again(tmp_path: Path) -> None:
    found = read(npz(tmp_path, x=images(3, 3)), [OPEN])
    first, second = list(found), list(found)
    np.testing.assert_equal(first, second)


def test_states_and_scalars_are_one_per_feed(tmp_path: Path) -> None:
    """As in voice activity detection: audio, a state whose first axis is no batch, and a rate."""
    inputs = [
        given_input(None, 8, name="audio"),
        given_input(2, None, 4, name="state"),
        given_input(name="rate", dtype=I64),
    ]
    path = npz(tmp_path, audio=images(3, 8), state=images(3, 2, 1, 4), rate=np.array([8, 16, 16]))
    feeds = list(read(path, inputs))
    assert [feed["rate"].shape for feed in feeds] == [()] * 3
    assert [int(feed["rate"]) for feed in feeds] == [8, 16, 16]
    np.testing.assert_array_equal(feeds[1]["state"], images(3, 2, 1, 4)[1])
    assert feeds[2]["audio"].shape == (1, 8)


def test_a_scalar_without_samples_is_in_every_feed(tmp_path: Path) -> None:
    path = npz(tmp_path, x=images(2, 3), rate=np.array(16))
    feeds = list(read(path, [OPEN, given_input(name="rate", dtype=I64)]))
    assert [int(feed["rate"]) for feed in feeds] == [16, 16]


def test_an_input_of_any_rank_takes_samples_of_any_shape() -> None:
    loose = Input(name="x", dtype=F32, shape=None)
    assert shapes(batches(images(2, 5, 6), [loose])) == [(1, 5, 6)] * 2


def test_npy_needs_a_model_with_one_input(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", images(4, 3))
    assert shapes(read(tmp_path / "data.npy", [OPEN], batch=4)) == [(4, 3)]
    with pytest.raises(BadData, match=r"holds one array and the model has several inputs: use .npz"):
        read(tmp_path / "data.npy", [OPEN, given_input(None, 3, name="y")])


def test_unused_arrays_are_ignored(tmp_path: Path) -> None:
    pickled = np.array([{"not": "needed"}, None])
    assert len(read(npz(tmp_path, x=images(2, 3), labels=pickled), [OPEN])) == 2


# What doesn't fit


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"y": images(2, 3)}, r"data.npz lacks x, it has y: name arrays as the model's inputs"),
        ({"x": images(2, 4)}, r"x in .*data.npz has shape \[2, 4\]: \[N, 3\] is needed"),
        ({"x": images(3, 1)[:, 0]}, r"has shape \[3\]: \[N, 3\] is needed"),
        ({"x": images(0, 3)}, r"x in .* has no samples"),
        ({"x": images(2, 3).astype(complex)}, r"is complex128: the model needs float32"),
        ({"x": images(2, 3).astype(str)}, r"the model needs float32"),
        ({"x": np.array([[1, None, 3]])}, r"x.npy in .* holds pickled Python objects, which could run code"),
    ],
)
def test_arrays_that_do_not_fit_raise(arrays: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=match):
        read(npz(tmp_path, **arrays), [OPEN])


def test_unequal_numbers_of_samples_raise(tmp_path: Path) -> None:
    path = npz(tmp_path, x=images(4, 3), y=images(5, 3))
    with pytest.raises(BadData, match=r"has 4 samples for x and 5 for y: equal numbers are needed"):
        read(path, [OPEN, given_input(None, 3, name="y")])


def test_less_than_a_batch_raises(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"has 3 samples: the model takes 8 at once"):
        read(npz(tmp_path, x=images(3, 3)), [given_input(8, 3)])


def test_an_invalid_batch_raises(tmp_path: Path) -> None:
    path = npz(tmp_path, x=images(4, 3, 4, 4))
    with pytest.raises(BadData, match=r"a batch of 2, and the model's is fixed at 1"):
        read(path, [IMAGE], batch=2)
    with pytest.raises(BadData, match=r"a batch of 0: at least 1"):
        read(path, [IMAGE], batch=0)


@pytest.mark.parametrize(
    ("found", "needed"),
    [(F64, F32), (np.uint8, F32), (np.int64, np.int32), (np.bool_, np.float32), (np.float16, F32)],
)
def test_compatible_types_are_converted(found: DTypeLike, needed: DTypeLike) -> None:
    arrays = {"x": np.array([[0, 1, 1]], found)}
    (feed,) = batches(arrays, [given_input(None, 3, dtype=needed)])
    assert feed["x"].dtype == needed
    np.testing.assert_array_equal(feed["x"], arrays["x"])


@pytest.mark.parametrize(
    ("values", "needed", "match"),
    [
        (np.array([[2**40]]), np.int32, r"x has values that int32 can't hold"),
        (np.array([[-1]]), np.uint8, r"x has values that uint8 can't hold"),
        (np.array([[1e300]]), F32, r"x has values that float32 can't hold"),
        (np.array([[2**53 + 1]]), F64, r"x has values that float64 can't hold"),
        (np.array([[2]]), np.bool_, r"x has values that bool can't hold"),
        (np.array([[1.0]]), I64, r"x in the data is float64: the model needs int64"),
    ],
)
def test_incompatible_types_raise(values: np.ndarray, needed: DTypeLike, match: str) -> None:
    with pytest.raises(BadData, match=match):
        list(batches({"x": values}, [given_input(None, 1, dtype=needed)]))


BAD = np.array([[0.5, 1, 1], [0, np.nan, 1], [2.5, 2, 2], [0, 1, -np.inf], [3.5, 3, 3]])
ONE_INPUT_FORMS = (lambda x: x, lambda x: {"x": x}, lambda x: [x[:2], x[2:]], lambda x: iter([x[:2], x[2:]]))


@pytest.mark.parametrize("form", ONE_INPUT_FORMS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_samples_that_are_not_finite_are_refused_or_skipped(form: Any, dtype: DTypeLike) -> None:  # noqa: ANN401
    with pytest.raises(BadData, match=r"^x has NaN or infinite values in sample 1 of .*\(--skip-bad\)$"):
        batches(form(BAD.astype(dtype)), [OPEN])
    found = batches(form(BAD.astype(dtype)), [OPEN], skip_bad=True)
    np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in found]), BAD[[0, 2, 4]])
    assert (found.samples, found.note) == (3, "2 bad samples skipped: NaN or infinite values")


def test_a_bad_sample_is_named_with_its_file(tmp_path: Path) -> None:
    npz(tmp_path, "a.npz", x=BAD[:1])
    npz(tmp_path, "b.npz", x=BAD[2:])
    with pytest.raises(BadData, match=r"x has NaN or infinite values in sample 1 of .*b.npz"):
        read(tmp_path, [OPEN])
    assert read(tmp_path, [OPEN], skip_bad=True, batch=2).samples == 3
    with pytest.raises(BadData, match=r"all 1 samples"):
        batches(BAD[1:2], [OPEN], skip_bad=True)


def test_feeds_are_checked_as_they_are_fed() -> None:
    arrays = [BAD[:1].copy(), BAD[4:].copy()]
    found = batches(arrays, [OPEN])
    arrays[1][0, 0] = np.nan
    with pytest.raises(BadData, match=r"sample 0 of batch 1"):
        list(found)


@pytest.mark.parametrize("batch", [None, 1, 2, 4, 7])
@pytest.mark.parametrize("wanted", range(1, 12))
def test_samples_are_counted_truly(batch: int | None, wanted: int) -> None:
    x = np.linspace(0, 1, 30).reshape(10, 3)
    size = batch or 1
    for data in (x, [x[start : start + size] for start in range(0, 10, size)]):
        found = batches(data, [OPEN], batch=batch, samples=wanted)
        fed = np.concatenate([feed["x"] for feed in found])
        np.testing.assert_array_equal(fed, x[:wanted].astype(np.float32))
        assert found.samples == len(fed)
        assert len(found) == len(list(found))


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        (np.arange(256).astype(np.uint8), True),  # pixels
        (np.arange(256.0), True),
        (np.arange(256), True),
        (np.arange(256.0) - 128, True),
        (np.arange(-3, 4).astype(np.int8), True),
        (np.arange(-500, 500, 7).astype(np.int16), True),  # quiet audio
        (np.arange(-30000.0, 30000, 500), True),
        (np.arange(0, 65535, 257).astype(np.float64), True),
        (np.arange(256) / 255, False),
        (np.arange(256) + 0.5, False),
        (np.array([0, 1, 0, 0, 1, 0], np.uint8), False),  # flags and classes
        (np.array([0.0, 1, 0, 0, 1, 0]), False),
        (np.array([0, 3, 12, 1, 0, 0, 5]), False),  # counts
        (np.full(9, 200.0), False),
        (np.array([640.0, 480]), False),  # a size
    ],
)
def test_unscaled_signals_in_a_float_input_are_warned_of(values: np.ndarray, warned: bool) -> None:
    data = np.stack([values] * 3)
    note = f"holds whole numbers from {values.min():g} to {values.max():g} ({values.dtype})"
    for form in ONE_INPUT_FORMS:
        assert (note in batches(form(data), [given_input(None, len(values))]).note) == warned
    ids = batches(data, [given_input(None, len(values), name="token_ids")]).note
    assert not ids or values.itemsize <= 2
    if values.dtype == np.uint8:
        assert not batches(data, [given_input(None, len(values), dtype=np.uint8)]).note


@given(value=st.integers(-(2**63), 2**64 - 1), data=st.data())
def test_casts_keep_every_integer_or_raise(value: int, data: st.DataObject) -> None:
    kinds = [np.dtype(kind) for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")]
    fitting = [kind for kind in kinds if np.iinfo(kind).min <= value <= np.iinfo(kind).max]
    found, needed = data.draw(st.sampled_from(fitting)), data.draw(st.sampled_from(kinds))
    spec, array = given_input(None, 1, dtype=needed), np.array([[value]], found)
    if needed in fitting:
        assert next(iter(batches(array, [spec])))["x"].item() == value
    else:
        with pytest.raises(BadData, match=r"x has values that .* can't hold"):
            batches(array, [spec])


@pytest.mark.parametrize(("found", "needed"), [("i1", "u1"), ("u1", "i1"), ("i8", "u8"), ("u8", "i8")])
def test_numbers_that_change_sign_raise(found: str, needed: str) -> None:
    value = -1 if found[0] == "i" else np.iinfo(found).max
    with pytest.raises(BadData, match=r"can't hold"):
        batches(np.array([[value]], found), [given_input(None, 1, dtype=needed)])


def test_files_of_different_lengths_are_fed_by_equal_shape(tmp_path: Path) -> None:
    for number, length in enumerate((3, 7, 7, 5)):
        npz(tmp_path, f"{number}.npz", x=np.ones((3, length, 2)))
    found = read(tmp_path, [given_input(None, None, 2)], batch=4)
    assert shapes(found) == [(3, 3, 2), (4, 7, 2), (2, 7, 2), (3, 5, 2)]
    assert (found.samples, len(found)) == (12, 4)
    assert "equal shape" in found.note


def test_arrays_that_are_no_inputs_are_named(tmp_path: Path) -> None:
    path = npz(tmp_path, x=np.full((2, 3), 0.5), labels=np.ones(2))
    assert "labels" in read(path, [OPEN]).note


def test_memory_order_does_not_matter() -> None:
    x = np.asfortranarray(np.linspace(0, 1, 6).reshape(2, 3))
    (feed,) = batches(x, [OPEN], batch=2)
    np.testing.assert_array_equal(feed["x"], x.astype(np.float32))
    assert feed["x"].flags.c_contiguous


def test_files_of_different_rank_raise(tmp_path: Path) -> None:
    npz(tmp_path, "a.npz", x=images(2, 2, 2))
    npz(tmp_path, "b.npz", x=images(2, 1, 2, 2))
    with pytest.raises(BadData, match=r"in different files: one form is needed"):
        read(tmp_path, [given_input(None, 2, 2)])


# Invalid files


def test_paths_without_samples_raise(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"gone.npz doesn't exist"):
        read(tmp_path / "gone.npz", [OPEN])
    with pytest.raises(BadData, match=r"holds no .npz or .npy file"):
        read(tmp_path, [OPEN])
    (tmp_path / "data.csv").write_text("1,2,3")
    with pytest.raises(BadData, match=r"data.csv is neither .npz nor .npy"):
        read(tmp_path / "data.csv", [OPEN])


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04" + bytes(30)])
def test_broken_archives_raise(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(BadData, match=r"data.npz can't be read as .npz"):
        read(tmp_path / "data.npz", [OPEN])
    (tmp_path / "data.npy").write_bytes(content)
    with pytest.raises(BadData, match=r"data.npy is no numpy array"):
        read(tmp_path / "data.npy", [OPEN])


def test_truncated_arrays_raise(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", images(4, 3))
    whole = (tmp_path / "data.npy").read_bytes()
    (tmp_path / "data.npy").write_bytes(whole[:-1])
    with pytest.raises(BadData, match=r"data.npy is cut short"):
        read(tmp_path / "data.npy", [OPEN])
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", whole[:-1])
    with pytest.raises(BadData, match=r"x.npy in .*data.npz is cut short"):
        read(tmp_path / "data.npz", [OPEN])


def test_damaged_values_raise(tmp_path: Path) -> None:
    path = npz(tmp_path, x=images(50_000, 3))
    content = bytearray(path.read_bytes())
    content[300_000] ^= 255
    path.write_bytes(content)
    with pytest.raises(BadData, match=r"x in .*data.npz can't be read"):
        list(read(path, [OPEN]))


# Data in memory


def test_every_form_of_data_gives_equal_feeds() -> None:
    whole = images(4, 3)
    pairs = [{"x": whole[i : i + 2]} for i in (0, 2)]
    for data in (
        whole,
        {"x": whole},
        pairs,
        [p["x"] for p in pairs],
        [(p["x"],) for p in pairs],
        iter(pairs),
    ):
        found = batches(data, [OPEN], batch=2)
        for _ in range(2):
            np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in found]), whole)
        assert (len(found), found.samples) == (2, 4)
        assert batches(found, [OPEN]) is found


def test_unnamed_arrays_are_in_the_order_of_inputs() -> None:
    inputs = [OPEN, given_input(None, 2, name="y")]
    (feed,) = batches([(images(1, 3), images(1, 2))], inputs)
    assert feed["y"].shape == (1, 2)
    with pytest.raises(BadData, match=r"1 arrays without names for the inputs x, y: name them"):
        batches([images(1, 3)], inputs)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ([], r"the data holds no batch"),
        (3, r"data of type int: a path, arrays by name, or batches are needed"),
        ([{"y": images(1, 3)}], r"a batch lacks x: it has y"),
        ([{"x": images(1, 4)}], r"x has shape \[1, 4\] in a batch: \[\?, 3\] is needed"),
        ([{"x": np.array([["a", "b", "c"]])}], r"the model needs float32"),
    ],
)
def test_invalid_data_raises(data: object, match: str) -> None:
    with pytest.raises(BadData, match=match):
        batches(data, [OPEN])


def test_an_iterable_is_iterated_again_not_stored() -> None:
    class Loader:
        rounds = 0

        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Iterator[np.ndarray]:
            self.rounds += 1
            return iter([images(1, 3), images(1, 3)])

    loader = Loader()
    found = batches(loader, [OPEN])
    before = loader.rounds
    assert len(list(found)) == 2
    assert loader.rounds == before + 1


def test_defaults_are_replaced_where_the_data_name_them(tmp_path: Path) -> None:
    default = Input(name="w", dtype=F32, shape=(3, 2), has_default=True)
    x, w = np.full((4, 3), 0.5), np.full((3, 2), 0.25)
    assert [set(feed) for feed in batches(x, [OPEN, default])] == [{"x"}] * 4
    for form in (w, np.stack([w] * 4)):
        found = read(npz(tmp_path, x=x, w=form), [OPEN, default])
        assert [feed["w"].shape for feed in found] == [(3, 2)] * 4
        assert [spec.name for spec in found.inputs] == ["x", "w"]
    (feed,) = batches([{"x": x, "w": w}], [OPEN, default])
    np.testing.assert_array_equal(feed["w"], w.astype(np.float32))
    with pytest.raises(BadData, match=r"w, which has a default, is in a part of the data only"):
        batches([{"x": x, "w": w}, {"x": x}], [OPEN, default])


def test_values_for_all_samples_are_those_of_their_file(tmp_path: Path) -> None:
    for number in range(2):
        npz(tmp_path, f"{number}.npz", x=np.full((3, 3), 0.5), rate=np.float32(number))
    found = read(tmp_path, [OPEN, given_input(name="rate")], batch=2)
    assert [(len(feed["x"]), feed["rate"].item()) for feed in found] == [(2, 0), (1, 0), (2, 1), (1, 1)]
    with pytest.raises(BadData, match=r"^rate has NaN or infinite values in the data"):
        batches({"x": np.ones((1, 3)), "rate": np.float32(np.nan)}, [OPEN, given_input(name="rate")])


def states(tmp_path: Path, counts: tuple[int, ...]) -> Path:
    """Files with samples x, and a state for each four of them."""
    for number, count in enumerate(counts):
        x = np.linspace(0, 1, count)[:, None].repeat(3, 1) + number
        npz(tmp_path, f"{number}.npz", x=x, h=x[::4][: count // 4, None, :2])
    return tmp_path


def test_states_stay_with_their_samples(tmp_path: Path) -> None:
    inputs = [given_input(4, 3), given_input(1, 2, name="h")]
    found = read(states(tmp_path, (6, 9)), inputs)
    assert [(feed["x"][0, 0], feed["h"][0, 0]) for feed in found] == [
        (np.float32(x), np.float32(x)) for x in (0, 1, 1.5)
    ]
    assert (found.samples, found.note) == (12, "3 samples left over: they don't fill a batch of 4")
    found = read(tmp_path, inputs, samples=9)
    assert (found.samples, len(found)) == (8, 2)
    assert "8 samples are fed, in whole batches, where 9 were asked for" in found.note


def test_states_are_skipped_with_their_samples() -> None:
    x, h = np.linspace(0, 1, 36).reshape(12, 3), np.linspace(0, 1, 6).reshape(3, 1, 2)
    x[5, 1] = np.nan
    inputs = [given_input(4, 3), given_input(1, 2, name="h")]
    with pytest.raises(BadData, match=r"x has NaN or infinite values in sample 5 of the data"):
        batches({"x": x, "h": h}, inputs)
    found = batches({"x": x, "h": h}, inputs, skip_bad=True)
    fed = list(found)
    np.testing.assert_array_equal(np.stack([feed["h"] for feed in fed]), h[[0, 2]].astype(np.float32))
    np.testing.assert_array_equal(fed[1]["x"], x[8:].astype(np.float32))
    assert (found.samples, found.note) == (8, "4 bad samples skipped: NaN or infinite values")
    inputs.append(given_input(name="rate"))
    with pytest.raises(BadData, match=r"^all 4 samples have NaN or infinite values"):
        batches({"x": x[4:8], "h": h[:1], "rate": np.float32(1)}, inputs, skip_bad=True)


def fails_midway() -> Iterator[np.ndarray]:
    yield np.ones((1, 3))
    raise OSError("disk full\nreally")


class Exhausted:
    """An iterable with a length that gives its feeds once."""

    def __init__(self) -> None:
        self.feeds = iter([np.ones((1, 3))] * 2)

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.feeds


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (fails_midway(), r"^the data can't give batch 1 \(OSError: disk full\): repair it$"),
        (Exhausted(), r"^the data gave 2 batches at first and then 0: give a list of them$"),
        (iter([]), r"^the data holds no batch"),
        ([np.ones((0, 3))], r"^the data holds no sample"),
        ({"x": [[1, 2], [3]]}, r"^x is no array"),
        ({"x": np.ma.masked_array(np.ones((1, 3)), [[0, 1, 0]])}, r"^x has masked values"),
        (np.full((1, 3), None), r"^x in the data is object: the model needs float32"),
        (["a.npz"], r"^x in a batch is <U5: the model needs float32"),
    ],
)
def test_data_that_can_not_be_read_raise(data: Any, match: str) -> None:  # noqa: ANN401
    with pytest.raises(BadData, match=match):
        list(batches(data, [OPEN]))


def test_an_endless_iterator_is_read_as_far_as_needed() -> None:
    assert batches(repeat(np.full((2, 3), 0.5)), [OPEN], samples=5).samples == 5


def test_an_order_that_changes_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    arrays = [np.full((1, 3), 0.5), np.full((1, 3), 0.25)]
    found = batches(arrays, [OPEN])
    list(found)
    assert "in each pass" not in caplog.text
    arrays.reverse()
    list(found)
    assert "the data aren't the same in each pass" in caplog.text


# Noise


def test_noise_is_seeded_normal_and_fills_the_models_batch() -> None:
    found = noise([given_input(4, 1000)], samples=10, seed=3)
    assert (found.kind, found.samples, len(found)) == ("noise", 12, 3)
    values = np.concatenate([feed["x"] for feed in found])
    assert values.dtype == F32
    assert abs(values.mean()) < 0.05
    assert abs(values.std() - 1) < 0.05
    again, other = (
        np.concatenate([feed["x"] for feed in noise([given_input(4, 1000)], samples=12, seed=seed)])
        for seed in (3, 4)
    )
    np.testing.assert_array_equal(values, again)
    assert not np.array_equal(values, other)


def test_feeds_of_noise_differ() -> None:
    first, second = noise([OPEN], samples=2)
    assert not np.array_equal(first["x"], second["x"])


def test_an_open_batch_of_noise_is_1_by_default() -> None:
    assert shapes(noise([OPEN], samples=3)) == [(1, 3)] * 3
    found = noise([OPEN], samples=3, batch=2)
    assert (shapes(found), found.samples) == ([(2, 3)] * 2, 4)


@pytest.mark.parametrize(
    ("name", "dtype", "low", "high"),
    [
        ("input_ids", I64, 0, 15),
        ("attention_mask", I64, 1, 1),
        ("token_type_ids", np.int32, 0, 1),
        ("image", np.uint8, 0, 255),
        ("flag", np.bool_, 0, 1),
    ],
)
def test_integer_noise_stays_in_plausible_bounds(name: str, dtype: DTypeLike, low: int, high: int) -> None:
    found = noise([given_input(1, 4000, name=name, dtype=dtype)], samples=1)
    (feed,) = found
    assert feed[name].dtype == dtype
    assert (feed[name].min(), feed[name].max()) == (low, high)
    assert found.note


def test_noise_needs_sizes() -> None:
    with pytest.raises(UnknownShape, match=r"input x \[\?, 3, \?\] has an open axis: give --shape x="):
        noise([given_input(None, 3, None)], samples=1)
    with pytest.raises(UnknownShape, match=r"input x has no shape"):
        noise([Input(name="x", dtype=F32, shape=None)], samples=1)
    with pytest.raises(BadData, match=r"input x holds object, for which there is no noise"):
        noise([given_input(1, dtype=object)], samples=1)
    with pytest.raises(BadData, match=r"0 samples of noise"):
        noise([OPEN], samples=0)


# Splitting


@given(st.integers(1, 40), st.integers(1, 50))
def test_evenly_spaced_feeds(count: int, most: int) -> None:
    data = batches({"x": images(count, 1)}, [given_input(None, 1)])
    places = [int(feed["x"][0, 0]) for feed in evenly_spaced(data, most)]
    assert len(places) == evenly_spaced(data, most).count == min(count, most)
    gaps = np.diff([*places, count])
    assert places[0] == 0 and gaps.max() - gaps.min() <= 1


@given(count=st.integers(2, 60), share=st.floats(0.01, 0.99))
def test_a_split_is_complete_and_evenly_spaced(count: int, share: float) -> None:
    whole = batches(images(count, 3), [OPEN])
    calibration, held_out = split(whole, share)
    kept, out = ([int(feed["x"][0, 0]) // 3 for feed in part] for part in (calibration, held_out))
    assert sorted(kept + out) == list(range(count))
    assert len(out) == min(max(round(count * share), 1), count - 1) == len(held_out) == held_out.samples
    gaps = np.diff(out)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_one_feed_is_both_parts_with_a_note() -> None:
    whole = batches(images(1, 3), [OPEN])
    calibration, held_out = split(whole)
    assert len(calibration) == len(held_out) == 1
    assert held_out.note == "one batch only: calibration and validation use the same samples"


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_an_invalid_share_raises(share: float) -> None:
    with pytest.raises(BadData, match=r"it must be between 0 and 1"):
        split(batches(images(2, 3), [OPEN]), share)


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_every_fourth_feed_is_for_validation(count: int) -> None:
    feeds = batches(
        [{"x": np.full((1, 2), i, np.float32)} for i in range(count)],
        [Input(name="x", dtype=F32, shape=(1, 2))],
    )
    shown, checks = ([int(feed["x"][0, 0]) for feed in part] for part in train_and_validation(feeds))
    if count < 4:
        assert shown == checks == list(range(count))
        return
    assert checks == [i for i in range(count) if is_validation(i)]
    assert sorted(shown + checks) == list(range(count))

"""Settings of the process that several threads hold at once."""

import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import threadpoolctl

from modelsurgeon import linalg
from modelsurgeon.shared_settings import SharedSetting, warnings_ignored


class Lamp:
    """A switch, and how often it was switched on."""

    def __init__(self) -> None:
        self.on, self.uses = False, 0

    def switch_on(self) -> "Lamp":
        assert not self.on
        self.on, self.uses = True, self.uses + 1
        return self

    def __call__(self) -> None:
        self.on = False


def test_the_first_applies_and_the_last_undoes() -> None:
    lamp = Lamp()
    setting = SharedSetting(lamp.switch_on)
    first, second = SharedSetting.__enter__, SharedSetting.__exit__
    first(setting), first(setting)
    second(setting, None, None, None)
    assert lamp.on
    second(setting, None, None, None)
    assert (lamp.on, lamp.uses) == (False, 1)
    with pytest.raises(KeyError, match="stop"), setting:
        assert lamp.on
        raise KeyError("stop")
    assert (lamp.on, lamp.uses) == (False, 2)


def test_a_failed_switch_leaves_nothing() -> None:
    def fail() -> Lamp:
        raise OSError("no power")

    with pytest.raises(OSError, match="no power"), SharedSetting(fail):
        pass
    lamp = Lamp()
    with SharedSetting(lamp.switch_on):
        assert lamp.on


def test_many_threads_leave_the_threads_of_blas_as_they_were() -> None:
    def blas() -> list[int]:
        return [each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"]

    matrix, start = np.random.default_rng(0).normal(size=(40, 30)), Barrier(6)

    def work(seed: int) -> None:
        start.wait(timeout=20)
        for _ in range(30):
            with linalg.single_blas_thread(1):
                assert set(blas()) == {1}
                time.sleep(seed / 5000)
            linalg.singular_values(matrix)

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas()
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
        assert blas() == before


def test_warnings_are_ignored_by_message_and_the_filters_stay() -> None:
    before = list(warnings.filters)
    with warnings_ignored(["a known .* thing"]):
        warnings.warn("A known odd thing, as ever", UserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="another thing"):
            warnings.warn("another thing", UserWarning, stacklevel=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="A known"):
        warnings.warn("A known odd thing, as ever", UserWarning, stacklevel=1)


def test_filters_that_another_has_replaced_are_left_alone() -> None:
    with warnings_ignored(["thing"]), warnings.catch_warnings():
        warnings.resetwarnings()
    assert not any("thing" in str(entry) for entry in warnings.filters)

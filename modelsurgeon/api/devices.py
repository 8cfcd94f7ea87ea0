"""Where large matrices are factorized: on the CPU by numpy, or on a GPU through torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

from modelsurgeon.arguments import checked
from modelsurgeon.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")


@checked
@contextmanager
def device(name: str) -> Iterator[None]:
    """Large matrices are factorized on that device while this lasts; small ones stay with numpy.

    name: "cpu", or "cuda" through torch. Results are equal up to rounding. Raises Unavailable where torch or
    the device is missing: nothing falls back to the CPU in silence.
    """
    if name == "cpu":
        yield
        return
    if not name.startswith("cuda"):
        raise Unavailable(f"there is no device {name!r}: use cpu or cuda")
    if find_spec("torch") is None:
        raise Unavailable(f"{name} needs torch, which is missing: install it, or use --device cpu")
    from modelsurgeon.torch.device import on

    with on(name):
        yield


def on_device(work: Callable[P, T]) -> Callable[P, T]:
    """A function whose argument `device` is in force while it runs."""

    @wraps(work)
    def there(*args: P.args, **kwargs: P.kwargs) -> T:
        with device(str(kwargs.get("device", "cpu"))):
            return work(*args, **kwargs)

    return there

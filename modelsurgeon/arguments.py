"""Checks of arguments against the annotations of the function that takes them."""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Callable as CallableType
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, wraps
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from modelsurgeon.errors import BadArgument
from modelsurgeon.progress import Progress

P = ParamSpec("P")
T = TypeVar("T")
UNION_TYPES = (Union, types.UnionType)
WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    Path: "a path",
    CallableType: "a function",
    np.ndarray: "an array",
}
MAX_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Interval:
    """The range of a number, as an annotation. above: whether `least` itself is out of it."""

    least: float
    most: float | None = None
    above: bool = False

    def __contains__(self, number: float) -> bool:
        """Whether the number is in the range."""
        low = number > self.least if self.above else number >= self.least
        return low and (self.most is None or number <= self.most)

    def __str__(self) -> str:
        """The range in words."""
        low = f"above {self.least:g}" if self.above else f"of at least {self.least:g}"
        return low if self.most is None else f"{low} and at most {self.most:g}"


Size = Annotated[int, Interval(1)]
Count = Annotated[int, Interval(1)]
Seed = Annotated[int, Interval(0)]
Tolerance = Annotated[float, Interval(0)]
Fraction = Annotated[float, Interval(0, 1, above=True)]


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """The function, which raises BadArgument for arguments that don't fit its annotations."""

    @wraps(function)
    def checking(*args: P.args, **kwargs: P.kwargs) -> T:
        check_call(function, args, kwargs)
        return function(*args, **kwargs)

    return checking


def check_call(function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise BadArgument where the arguments don't fit the function's parameters and annotations."""
    name, known = call_name(function), parameters(function)
    for key in kwargs:
        if key not in known:
            own = {each.name: each.default is each.empty for each in _signature(function).parameters.values()}
            options = [option for option in known if option not in own]
            options += [option for option, required in own.items() if option in known and not required]
            raise BadArgument(f"{name} takes no keyword {key!r}; {suggestion(key, options)}")
    try:
        given = _signature(function).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise BadArgument(f"{name}: {error}; it takes {', '.join(known)}") from None
    for key, value in {**given, **kwargs}.items():
        if key in known and (problem := find_problem(key, value, known[key])):
            raise BadArgument(f"{name}: {problem}")


def call_name(function: Callable[..., Any]) -> str:
    """The function's name as a caller writes it: `compress`, `bn fold`."""
    return f"bn {function.__name__}" if function.__module__ == "modelsurgeon.bn" else function.__name__


def suggestion(key: str, known: Collection[str]) -> str:
    """All known names, and the one that is most like an unknown one."""
    near = get_close_matches(key, known, n=1)
    options = f"its options are {', '.join(known)}"
    return f"{options}; did you mean {near[0]!r}?" if near else options


@cache
def parameters(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The annotation of every parameter, those of a TypedDict of keywords included.

    Where one needs a name that only type checkers import, it is Any.
    """
    found: dict[str, Any] = {}
    for name, parameter in _signature(function).parameters.items():
        annotation = _evaluated(parameter.annotation, inspect.unwrap(function))
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            [options] = get_args(annotation) or (None,)
            found |= {} if options is None else get_type_hints(options, include_extras=True)
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            found[name] = annotation
    return found


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _evaluated(annotation: Any, function: Callable[..., Any]) -> Any:  # noqa: ANN401 - an annotation
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, {"Progress": Progress, **function.__globals__})  # noqa: S307 - our own annotation
    except (NameError, AttributeError):
        return Any


def find_problem(name: str, value: Any, annotation: Any) -> str | None:  # noqa: ANN401
    """What is wrong with a value: what was found, and what is needed; None where it fits."""
    if annotation in (Any, object) or isinstance(annotation, TypeVar):
        return None
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in UNION_TYPES:
        return _problem_of_union(name, value, args)
    if _holds(origin, Mapping):
        return _problem_of_mapping(name, value, annotation, args)
    if _holds(origin, Collection):
        return _problem_of_list(name, value, annotation, args)
    if origin is Annotated:
        fits = _is_instance(value, args[0]) and value in args[1]
    elif origin is Literal:
        fits = any(type(value) is type(each) and value == each for each in args)
    else:
        fits = _is_instance(value, origin or annotation)
    return None if fits else _needs(name, value, annotation)


def _holds(origin: Any, kind: type) -> bool:  # noqa: ANN401
    """Whether the origin of an annotation is a kind of collection."""
    plain = (CallableType, np.ndarray)
    return isinstance(origin, type) and origin not in plain and issubclass(origin, kind)


def _is_instance(value: Any, kind: Any) -> bool:  # noqa: ANN401
    """Whether the value is of a plain type: numpy's numbers are numbers, and truth values are none."""
    if kind in (None, types.NoneType):
        return value is None
    if kind is bool:
        return isinstance(value, bool) or type(value).__name__ == "bool"
    if kind in (int, float):
        number = Integral if kind is int else Real
        return not isinstance(value, bool) and isinstance(value, number) and isfinite(value)
    if kind is CallableType:
        return callable(value)
    if kind is Path:
        return isinstance(value, os.PathLike)
    return isinstance(value, kind)


def _problem_of_union(name: str, value: Any, options: Collection[Any]) -> str | None:  # noqa: ANN401
    """The problem of the option that the value comes nearest to: one with a fault inside, if there is one."""
    problems = [find_problem(name, value, option) for option in options]
    if None in problems:
        return None
    inside = [each for each in problems if each and not each.startswith(f"{name} is ")]
    return inside[0] if inside else _needs(name, value, Union[tuple(options)])  # noqa: UP007 - made at run time


def _problem_of_mapping(name: str, value: Any, annotation: Any, args: tuple[Any, ...]) -> str | None:  # noqa: ANN401
    if not isinstance(value, Mapping):
        return _needs(name, value, annotation)
    kind, content = args
    parts = ((f"{name}[{key!r}]", each, content) for key, each in value.items())
    keys = ((f"the key {key!r} of {name}", key, kind) for key in value)
    return next(_problems([*keys, *parts]), None)


def _problem_of_list(name: str, value: Any, annotation: Any, args: tuple[Any, ...]) -> str | None:  # noqa: ANN401
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection) or _is_scalar(value):
        hint = f": write [{value!r}]" if isinstance(value, str) and args[0] is str else ""
        return f"{_needs(name, value, annotation)}{hint}"
    return next(_problems((f"{name}[{at}]", each, args[0]) for at, each in enumerate(value)), None)


def _is_scalar(value: Any) -> bool:  # noqa: ANN401
    """Whether this is an array without axes, which has no length."""
    return getattr(value, "ndim", 1) == 0


def _problems(parts: Any) -> Iterator[str]:  # noqa: ANN401 - an iterable of the arguments of find_problem
    return (problem for part in parts if (problem := find_problem(*part)))


def _needs(name: str, value: Any, annotation: Any) -> str:  # noqa: ANN401
    return f"{name} is {describe(value)}, {words(annotation)} is needed"


def describe(value: Any) -> str:  # noqa: ANN401
    """The value in a message: numbers, text and truth values as they are, others by their type."""
    if value is None or isinstance(value, str | bool | Real):
        kind = "the text " if isinstance(value, str) else ""
        text = repr(value) if isinstance(value, str | bool) or value is None else str(value)
        return kind + (text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")
    return f"of type {type(value).__name__}"


def words(annotation: Any) -> str:  # noqa: ANN401
    """An annotation in words, for the end of "... is needed"."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return f"{words(args[0])} {args[1]}"
    if origin in UNION_TYPES:
        return " or ".join(dict.fromkeys(words(each) for each in args if each is not types.NoneType))
    if origin is Literal:
        return f"one of {', '.join(map(repr, args))}"
    if _holds(origin, Mapping):
        return f"a mapping of names to {_plural(args[1])}"
    if _holds(origin, Collection):
        return f"a list of {_plural(args[0])}"
    return WORDS.get(origin or annotation, f"a {getattr(annotation, '__name__', annotation)}")


def _plural(annotation: Any) -> str:  # noqa: ANN401
    """An annotation in words, for several of them."""
    if get_origin(annotation) is Annotated:
        return f"{_plural(get_args(annotation)[0])} {get_args(annotation)[1]}"
    several = {int: "whole numbers", float: "finite numbers", str: "texts", Any: "values"}
    if annotation in several:
        return several[annotation]
    return words(annotation).replace("a list", "lists", 1).replace("a mapping", "mappings", 1)

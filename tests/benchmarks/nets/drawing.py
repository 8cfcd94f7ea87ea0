"""Text images drawn with Pillow from a seed: lines, captchas and pages, all grayscale."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.benchmarks.subjects import Absent, Array

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

CLEAR = ("DejaVuSans", "DejaVuSerif", "LiberationSans-Regular", "LiberationSerif-Regular")
ALIKE = "0O1IlijJoQq9gZz2S5s"  # characters that are easily confused in a captcha
MARGIN = 8


def pillow() -> Any:  # noqa: ANN401 - a module
    """Pillow's modules for drawing. Raises Absent."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise Absent("Pillow is needed to draw samples: pip install pillow") from None
    return Image, ImageDraw, ImageFont


@cache
def font(number: int, size: int) -> FreeTypeFont:
    """One of the clear fonts that are installed, or Pillow's default."""
    fonts = pillow()[2]
    found = []
    for name in CLEAR:
        try:
            found.append(fonts.truetype(f"{name}.ttf", size))
        except OSError:
            continue
    return found[number % len(found)] if found else fonts.load_default(size)


@cache
def docstrings() -> tuple[str, ...]:
    """Docstrings of the standard library, in the order of its files."""
    return tuple(text for path in sorted(_library().glob("*.py")) for text in _docstrings_in(path))


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _docstrings_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
            yield text


@cache
def words() -> tuple[str, ...]:
    """Plain English words of 3 to 9 letters, each once."""
    found = (word for text in docstrings() for word in text.split())
    return tuple(
        dict.fromkeys(w for w in found if w.isascii() and w.isalpha() and w.islower() and 3 <= len(w) <= 9)
    )


def line(random: Random, height: int, width: int) -> tuple[Array, str]:
    """Dark words on a light background, `(height, width)` of 0 to 255, and the text."""
    text = " ".join(random.choices(words(), k=random.randint(1, 2)))
    if random.random() < 0.3:
        text = f"{text.split()[0].title()} {random.randint(10, 99999)}"
    image, draw = _ground(random, height, width)
    face = font(random.randrange(len(CLEAR)), round(height * random.uniform(0.72, 0.85)))
    while draw.textlength(text, face) > width - 2 * MARGIN:
        text = text.rpartition(" ")[0] or text[:-1]
    draw.text((MARGIN, height / 2), text, random.randint(0, 70), face, anchor="lm")
    return _noisy(image, random, 2.0), text


def captcha(random: Random, height: int, width: int) -> tuple[Array, str]:
    """Four to six letters and digits, each slightly rotated, and a line across."""
    images = pillow()[0]
    signs = [s for s in "ABCDEFGHJKLMNPRTUVWXYabdefhjkmnprtuvwxy34678" if s not in ALIKE]
    text = "".join(random.choices(signs, k=random.randint(4, 6)))
    image, draw = _ground(random, height, width)
    ends = [random.randint(0, height) for _ in range(2)]
    draw.line((0, ends[0], width, ends[1]), fill=random.randint(90, 160), width=1)
    step = (width - 2 * MARGIN) / len(text)
    for place, sign in enumerate(text):
        tile = images.new("L", (height, height), 0)
        face = font(random.randrange(len(CLEAR)), round(min(step * 1.2, height * 0.7)))
        pillow()[1].Draw(tile).text((height / 2, height / 2), sign, 255, face, anchor="mm")
        turned = tile.rotate(random.uniform(-8, 8))
        at = (round(MARGIN + step * (place + 0.5) - height / 2), random.randint(-4, 4))
        image.paste(random.randint(0, 50), at, turned)
    return _noisy(image, random, 4.0), text


def page(random: Random, height: int, width: int) -> Array:
    """Lines of words at random sizes and indents."""
    image, draw = _ground(random, height, width)
    top = random.randint(10, 30)
    while top < height - 40:
        size = random.randint(14, 34)
        text = " ".join(random.choices(words(), k=random.randint(1, 6)))
        left = random.randint(10, width // 3)
        draw.text((left, top), text, random.randint(0, 90), font(random.randrange(len(CLEAR)), size))
        top += round(size * random.uniform(1.5, 2.5))
    return _noisy(image, random, 3.0)


def _ground(random: Random, height: int, width: int) -> Any:  # noqa: ANN401 - an image and what draws on it
    images, drawing, _ = pillow()
    image = images.new("L", (width, height), random.randint(205, 255))
    return image, drawing.Draw(image)


def _noisy(image: Any, random: Random, deviation: float) -> Array:  # noqa: ANN401 - an image
    pixels = np.asarray(image, np.float32)
    noise = np.random.default_rng(random.getrandbits(32)).normal(0, deviation, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.float32)

"""Nodes that work on each channel separately, between a convolution's output `a` and the next one."""

import numpy as np

MOVES = {
    "a padding": (
        'p = Pad (a, t) q = Pad <mode = "reflect"> (p, t) y = Conv (q, v)',
        {"t": np.array([0, 0, 1, 0, 0, 0, 0, 2])},
    ),
    "a crop": (
        "s = Slice (a, o, l, d) y = Conv (s, v)",
        {"o": np.array([1]), "l": np.array([5]), "d": np.array([-1])},
    ),
    "enlarging": (
        's = Resize <mode = "linear"> (a, , t) y = Conv (s, v)',
        {"t": np.array([1, 1, 2, 1.5], np.float32)},
    ),
    "channels last": (
        """t = Transpose <perm = [0, 2, 3, 1]> (a) c = Cast <to = 1> (t) s = Add (c, k) r = Relu (s)
        u = Transpose <perm = [0, 3, 1, 2]> (r) y = Conv (u, v)""",
        {"k": np.array([0.5, -1, 2, 0.25, 2, 1], np.float32)},
    ),
    "height and width exchanged": (
        "t = Transpose <perm = [0, 1, 3, 2]> (a) y = Conv (t, v)",
        {},
    ),
    "dropout": ("r = Dropout (a) i = Identity (r) y = Conv (i, v)", {}),
}

"""Errors for requests of the user that can't be fulfilled.

    SurgeryError
    ├── BadArgument        an argument of a wrong type, out of range, or unknown
    ├── BadModel           the file or graph is not a sound model
    ├── BadData            samples that don't fit the model's inputs
    ├── BadPlan            a plan with an unknown layer, method or rank
    ├── UnknownLayer       a name or pattern that matches no layer of the model
    ├── UnsupportedLayer   the operation isn't possible for this layer
    ├── UnknownShape       a needed size is dynamic in the model
    ├── Unreachable        no choice of ranks meets the budget
    ├── Unavailable        a provider or an optional package is missing here
    ├── Unwritable         an output that can't be written where it was asked for
    ├── GateMissed         a model costs more than was allowed
    ├── NoVerdict          two models whose outputs can't be judged
    └── ToleranceExceeded  the outputs differ by more than was allowed

Every message says what was found, what was needed, and what to do.
Any other exception is a bug of this library and shows its traceback.
"""


class SurgeryError(Exception):
    """Base of all errors here; the command line shows the message in one line and exits with 1."""


class BadArgument(SurgeryError, TypeError, ValueError):
    """An argument of a wrong type, out of range, or unknown."""


class BadModel(SurgeryError):
    """The file or graph is not a sound model."""


class BadData(SurgeryError):
    """Samples that don't fit the model's inputs."""


class BadPlan(SurgeryError):
    """A plan with an unknown layer, method or rank."""


class UnknownLayer(SurgeryError):
    """A name or pattern that matches no layer of the model."""


class UnsupportedLayer(SurgeryError):
    """The operation isn't possible for this layer."""


class UnknownShape(SurgeryError):
    """A needed size is dynamic in the model."""


class Unreachable(SurgeryError):
    """No choice of ranks meets the budget."""


class Unavailable(SurgeryError):
    """A provider or an optional package is missing on this machine."""


class Unwritable(SurgeryError):
    """An output that can't be written where it was asked for."""


class NoVerdict(SurgeryError):
    """Two models whose outputs can't be judged: no finite element was compared, or A differs from itself."""


class ToleranceExceeded(SurgeryError):
    """The outputs differ by more than was allowed."""


class GateMissed(SurgeryError):
    """A model costs more than was allowed."""

"""What a user asked for and can't have.

    SurgeryError
    ├── BadModel           the file or graph is not a sound model
    ├── BadData            samples that the model can't be fed
    ├── BadPlan            a plan that names no layer, method or rank of ours
    ├── UnknownLayer       a name or pattern that fits no layer of the model
    ├── UnsupportedLayer   this method has no form for this layer
    ├── UnknownShape       a size is needed that the model doesn't fix
    ├── Unreachable        no choice of ranks meets the budget
    ├── Unavailable        a provider or an optional package is missing here
    ├── Unwritable         an output that can't be written where it was asked for
    ├── GateMissed         a model costs more than was allowed
    └── ToleranceExceeded  the outputs differ by more than was allowed

Every message says what was found, what was needed, and what to do.
Anything else that is raised is a bug of ours and shows its traceback.
"""


class SurgeryError(Exception):
    """A named problem; the command line shows its one line and exits with 1."""


class BadModel(SurgeryError):
    """The file or graph is not a sound model."""


class BadData(SurgeryError):
    """Samples that the model can't be fed."""


class BadPlan(SurgeryError):
    """A plan that names no layer, method or rank that exists."""


class UnknownLayer(SurgeryError):
    """A name or pattern that fits no layer of the model."""


class UnsupportedLayer(SurgeryError):
    """The method has no form for this layer."""


class UnknownShape(SurgeryError):
    """A size is needed that the model doesn't fix."""


class Unreachable(SurgeryError):
    """No choice of ranks meets the budget."""


class Unavailable(SurgeryError):
    """A provider or an optional package is missing on this machine."""


class Unwritable(SurgeryError):
    """An output that can't be written where it was asked for."""


class ToleranceExceeded(SurgeryError):
    """The outputs differ by more than was allowed."""


class GateMissed(SurgeryError):
    """A model costs more than was allowed."""

"""The gate that every verb ends with: whether the outputs stayed within what was asked."""

from __future__ import annotations

from modelsurgeon.comparison.compare import Comparison
from modelsurgeon.errors import NoVerdict, ToleranceExceeded

NO_VERDICT_ADVICE = ", or leave the comparison out (--no-compare)"


def check_compares(tolerance: float | None, *, compares: bool) -> None:
    """Raise NoVerdict for a tolerance without the comparison that would hold it."""
    if tolerance is not None and not compares:
        raise NoVerdict(
            f"a tolerance of {tolerance:g} was given (--tolerance), and nothing is compared that it holds "
            "for: leave out the tolerance, or --no-compare"
        )


def check(
    comparison: Comparison | None,
    advice: str,
    *,
    subject: str = "",
    no_verdict_advice: str = NO_VERDICT_ADVICE,
) -> None:
    """Raise NoVerdict where there is no verdict, ToleranceExceeded where a tolerance that holds is missed.

    advice: what to do about an error that is too large. subject: what the message starts with, such as "bn
    fold changed the outputs". no_verdict_advice: what to do where the outputs can't be judged.
    """
    if comparison is None:
        return
    if comparison.verdict is None:
        raise NoVerdict(f"no verdict: {comparison.reason}{no_verdict_advice}")
    if comparison.asked and comparison.verdict == "different":
        about = f"{subject}: " if subject else ""
        raise ToleranceExceeded(
            f"{about}relative L2 at the outputs is {comparison.worst:.3g}, at most {comparison.tolerance:g} "
            f"was allowed, at {comparison.worst_output}: {advice}"
        )

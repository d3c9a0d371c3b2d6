"""What makes the result of a run worthless, said before anything else is.

Every part knows its own doubts and lists them under ``warnings`` in its report or provenance; what
is checked here is what several parts have in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .accuracy.measured import LEAST_KENDALL
from .costs.fitting import LEAST_R2

if TYPE_CHECKING:
    from .generator import Generator

# So many standard deviations of guessing count as guessing.
_CHANCE_DEVIATIONS = 3.0


def of_judged(top1: npt.ArrayLike, classes: int, n_images: int, *, what: str) -> list[str]:
    """Doubt networks that do no better than guessing.

    Parameters
    ----------
    top1 : array of float, shape (n,)
        Accuracy of each network, 0 to 1.
    classes : int
    n_images : int
        That each was judged on.
    what : str
        What the networks are, plural, for the text.

    Examples
    --------
    >>> of_judged([0.11, 0.09], 10, 500, what="evaluated networks")[0]
    'All evaluated networks guess: ...'
    >>> of_judged([0.11, 0.90, 0.80], 10, 500, what="evaluated networks")
    []
    """
    values = np.asarray(top1, dtype=np.float64)
    if len(values) == 0:
        return []
    chance = 1 / classes
    limit = chance + _CHANCE_DEVIATIONS * np.sqrt(chance * (1 - chance) / max(n_images, 1))
    guessing = float(np.mean(values <= limit))
    if guessing < 0.5:
        return []
    share = "All" if guessing == 1 else f"{100 * guessing:.0f} % of the"
    return [
        f"{share} {what} guess: top-1 of at most {100 * limit:.1f} % is chance for {classes} "
        f"classes and {n_images} images. Nothing that follows from them means anything: train for "
        "more epochs, and look at the images, their labels, and whether they are those that the "
        "supernet was trained on."
    ]


def of_model(report: Mapping[str, Any]) -> list[str]:
    """Doubt an accuracy model by what it did on held-out architectures, and what it says itself."""
    doubts = listed(report)
    kendall = _number(report.get("kendall"))
    # Files of earlier releases do not say it themselves.
    known = any("Kendall" in doubt for doubt in doubts)
    if kendall is not None and not kendall >= LEAST_KENDALL and not known:
        doubts.append(
            f"The accuracy model orders held-out architectures hardly better than by lot (Kendall "
            f"{kendall:.2f}, at least {LEAST_KENDALL} is wanted): measure more architectures, or "
            "each on more images, and check that the table belongs to this space."
        )
    return doubts


def of_table(provenance: Mapping[str, Any], device: str) -> list[str]:
    """Doubt a cost table by how well it predicts what it was not fitted to."""
    doubts = listed(provenance)
    known = any("R2" in doubt for doubt in doubts)
    for key in () if known else ("correction", "held_out"):
        found = provenance.get(key)
        r2 = _number(found.get("r2")) if isinstance(found, Mapping) else None
        if r2 is not None and not r2 >= LEAST_R2:
            doubts.append(
                f"The cost table of '{device}' explains too little of what was measured (R2 "
                f"{r2:.2f}, at least {LEAST_R2} is wanted): measure again with the device left "
                "alone, or more networks."
            )
    return doubts


def of_generator(generator: Generator) -> list[str]:
    """Doubt a generator by its model, its tables and its training."""
    tables = list(dict.fromkeys((*generator.devices, *generator.tables)))
    doubts = [of_table(table.provenance, table.device) for table in tables]
    if len(tables) > 1:
        # Whoever asks for one of many devices wants to know which is meant.
        doubts = [
            [text if table.device in text else f"{table.describe()}: {text}" for text in texts]
            for table, texts in zip(tables, doubts, strict=True)
        ]
    return distinct(of_model(generator.model.report), *doubts, listed(generator.record))


def listed(facts: object) -> list[str]:
    """Return the texts under ``warnings`` of a report or provenance, which a file may hold."""
    found = facts.get("warnings") if isinstance(facts, Mapping) else facts
    if isinstance(found, (list, tuple)):
        return [text for text in found if isinstance(text, str) and text]
    return []


def distinct(*lists: Iterable[str]) -> list[str]:
    """Join lists of texts, each text once, in order."""
    return list(dict.fromkeys(text for texts in lists for text in texts))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)

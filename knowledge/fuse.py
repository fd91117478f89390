"""Two rankings → one score that means the same on every path (pure).

score = w · coverage + (1 − w) · scaled cosine. Rank fusion would throw away what only one of the two can find, such as
the answer in another language; here a side that knows nothing adds nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from knowledge.embed import Scale

WEIGHT_UNSPACED = 0.5  # of the lexical part, for questions in Chinese and other scripts without spaces
WEIGHT_SPACED = 0.3  # words fit their inflections worse than characters do

Scores = NDArray[np.float32]


def lexical_weight(spaced: bool) -> float:
    """The share of the lexical part, by the script of the question."""
    return WEIGHT_SPACED if spaced else WEIGHT_UNSPACED


def fuse(coverage: Scores, cosine: Scores, scale: Scale, weight: float) -> Scores:
    """One score per candidate, 0 to 1. coverage: 0 to 1. cosine: NaN where a passage has no vector yet.

    A passage without a vector is judged by its words alone.
    """
    dense = scale(cosine)
    raw = np.where(np.isnan(cosine), coverage, weight * coverage + (1 - weight) * dense)
    return np.clip(raw, 0, 1).astype(np.float32)

"""Two rankings → one score that means the same on every path (pure).

score = w · coverage + (1 − w) · nearness, where nearness is the cosine above what is usual between unrelated texts. Rank
fusion would throw away what only one of the two can find, such as the answer in another language; here a side that knows
nothing adds nothing. Passages in another script than the question are judged by nearness alone: no word could match.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from knowledge.embed import Scale

WEIGHT_UNSPACED = 0.6  # of the lexical part, for questions in Chinese and other scripts without spaces
WEIGHT_SPACED = 0.3  # words fit their inflections worse than characters do
GAIN = 1.6  # puts the line between answers and the rest at about 0.35: 95 of 100 answers are above it, see `make eval`
GAIN_WORDS = 1.75  # the same for passages that have no vector yet
TRUST = 0.5  # in a base's own mean cosine, against the model's usual one
PRIOR_SAMPLES = 20  # the usual cosine counts like so many passages, when a base has few

Scores = NDArray[np.float32]
Flags = NDArray[np.bool_]


def lexical_weight(spaced: bool) -> float:
    """The share of the lexical part, by the script of the question."""
    return WEIGHT_SPACED if spaced else WEIGHT_UNSPACED


def fuse(coverage: Scores, cosine: Scores, usual: Scores, foreign: Flags, spaced: bool, scale: Scale) -> Scores:
    """One score per candidate, 0 to 1, not cut at the top before the order is made.

    cosine: NaN where a passage has no vector yet; it is judged by its words alone. usual: what an unrelated passage of the
    candidate's base and script has. foreign: in another script than the question. spaced: the question's script.
    """
    weight = lexical_weight(spaced)
    nearness = cosine - usual
    same = weight * coverage + (1 - weight) * nearness / scale.span
    other = (1 - WEIGHT_SPACED) * nearness / scale.span_foreign
    fused = np.where(foreign, other, same)
    return np.where(np.isnan(cosine), GAIN_WORDS * coverage, GAIN * fused).astype(np.float32)


def usual_cosine(scale: Scale, samples: Scores, foreign: bool, spaced: bool) -> float:
    """What an unrelated passage scores against this question.

    samples: the question's cosines with some passages of the base. A base about one thing is nearer to every question
    than a base about everything: half of that is taken off.
    """
    usual = scale.usual_foreign if foreign else scale.usual_spaced if spaced else scale.usual
    own = (usual * PRIOR_SAMPLES + float(samples.sum())) / (PRIOR_SAMPLES + len(samples))
    return (1 - TRUST) * usual + TRUST * own

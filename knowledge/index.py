"""Vectors in Milvus (Milvus Lite's server, a Milvus cluster or Zilliz): the only import of pymilvus.

One collection per embedding model, a row per passage: id (the chunk's), base_id, vector. Everything here can be rebuilt from
the rows of the database (`rebuild`), so losing the store loses nothing.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import methodcaller
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bot.errors import SearchError
from knowledge.embed import Vectors

logger = logging.getLogger(__name__)
T = TypeVar("T")

SEARCH_TIMEOUT_S = 2.0
SEARCHES_AT_ONCE = 8  # of a process: more would wait inside Milvus Lite, while their time runs out
MORE_TIMEOUT_S = 0.25  # for each further question of a batch
WRITE_TIMEOUT_S = 60.0
PAUSE_S = 5.0  # after a failure searches do without for so long, instead of waiting SEARCH_TIMEOUT_S each
BATCH_ROWS = 1000
OURS = "qingniao_"  # our collections' names begin so
MAX_DEPTH = 16_384  # Source: Milvus, limits of topK

NO_COLLECTION = 100  # Source: Milvus, error codes: "collection not found"
NOT_LOADED = 101  # "collection not loaded": Milvus Lite has released all of them when it starts again

Ids = NDArray[np.int64]


class VectorIndex:
    """A connection to Milvus, opened at the first use and again after a fork (gRPC does not survive one).

    Threads may share it. Every method raises SearchError when Milvus is absent, slow or refuses.
    """

    def __init__(self, uri: str, token: str = "") -> None:
        self.uri = uri
        self._token = token
        self._lock = threading.Lock()
        self._client: Any = None
        self._pid = 0
        self._known: set[str] = set()
        self._paused_until = 0.0
        self._places = threading.BoundedSemaphore(SEARCHES_AT_ONCE)

    def search(self, embedding: str, base_ids: Sequence[int], vectors: Vectors, depth: int) -> list[tuple[Ids, Vectors]]:
        """The `depth` nearest passages of these bases for each vector: their ids and cosines, nearest first.

        None where nothing was ever put in. Raises SearchError at once for PAUSE_S after a failure.
        """
        if time.monotonic() < self._paused_until:
            raise _paused()

        def ask(client: Any) -> list[tuple[Ids, Vectors]]:
            try:
                found = client.search(
                    _collection(embedding),
                    data=list(vectors),
                    filter=f"base_id in {sorted(base_ids)}",
                    limit=min(depth, MAX_DEPTH),
                    search_params={"metric_type": "COSINE"},
                    timeout=SEARCH_TIMEOUT_S + MORE_TIMEOUT_S * (len(vectors) - 1),
                )
            except _pymilvus().MilvusException as error:
                if error.code != NO_COLLECTION:
                    raise
                return [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))] * len(vectors)
            return [
                (
                    np.array([hit["id"] for hit in hits], dtype=np.int64),
                    np.array([hit["distance"] for hit in hits], dtype=np.float32),
                )
                for hits in found
            ]

        with self._places:
            if time.monotonic() < self._paused_until:  # while this one waited for its place
                raise _paused()
            return self._call(ask, pausing=True)

    def upsert(self, embedding: str, rows: Sequence[tuple[int, int]], vectors: Vectors) -> None:
        """Put passages in, or in place of themselves. rows: (chunk id, base id). `flush` when the batch is whole."""
        if not len(rows):
            return
        data = [
            {"id": chunk_id, "base_id": base_id, "vector": vector}
            for (chunk_id, base_id), vector in zip(rows, vectors, strict=True)
        ]
        name = self._made(embedding, vectors.shape[1])
        for start in range(0, len(data), BATCH_ROWS):
            self._call(methodcaller("upsert", name, data[start : start + BATCH_ROWS], timeout=WRITE_TIMEOUT_S))

    def delete(self, embedding: str, chunk_ids: Sequence[int]) -> None:
        """Remove passages; unknown ids are no error."""
        if not chunk_ids or not self.exists(embedding):
            return
        name = _collection(embedding)
        for start in range(0, len(chunk_ids), BATCH_ROWS):
            part = list(chunk_ids[start : start + BATCH_ROWS])
            self._call(methodcaller("delete", name, ids=part, timeout=WRITE_TIMEOUT_S))

    def flush(self, embedding: str) -> None:
        """Seal what was written: Milvus Lite searches rows that are not flushed by brute force in Python."""
        if self.exists(embedding):
            self._call(lambda client: client.flush(_collection(embedding), timeout=WRITE_TIMEOUT_S))

    def exists(self, embedding: str) -> bool:
        """Whether anything was ever put in for this embedding."""
        return bool(self._call(lambda client: client.has_collection(_collection(embedding), timeout=SEARCH_TIMEOUT_S)))

    def ids(self, embedding: str, up_to: int) -> set[int]:
        """The ids of all passages that are in. up_to: the largest that should be; of larger ones at most MAX_DEPTH are told."""
        if not self.exists(embedding):
            return set()
        found: set[int] = set()
        for low in range(0, up_to + 1, MAX_DEPTH):
            high = f" and id < {low + MAX_DEPTH}" if low + MAX_DEPTH <= up_to else ""
            rows = self._call(
                methodcaller(
                    "query", _collection(embedding), f"id >= {low}{high}", output_fields=["id"], limit=MAX_DEPTH,
                    timeout=WRITE_TIMEOUT_S,
                )
            )  # fmt: skip
            found.update(row["id"] for row in rows)
        return found

    def drop(self, embedding: str) -> None:
        """Forget everything of one embedding."""
        self._call(lambda client: client.drop_collection(_collection(embedding), timeout=WRITE_TIMEOUT_S))
        self._known.discard(_collection(embedding))

    def clear(self) -> None:
        """Forget everything of every embedding."""

        def ask(client: Any) -> None:
            for name in client.list_collections(timeout=SEARCH_TIMEOUT_S):
                if name.startswith(OURS):
                    client.drop_collection(name, timeout=WRITE_TIMEOUT_S)

        self._call(ask)
        self._known.clear()

    def ping(self) -> None:
        """Raises SearchError when Milvus does not answer."""
        self._call(lambda client: client.list_collections(timeout=SEARCH_TIMEOUT_S))

    def close(self) -> None:
        with self._lock:
            if self._client is not None and self._pid == os.getpid():
                self._client.close()
            self._client = None

    def _made(self, embedding: str, dim: int) -> str:
        name = _collection(embedding)
        if name not in self._known:
            self._call(lambda client: _make_collection(client, name, dim))
            self._known.add(name)
        return name

    def _call(self, ask: Callable[[Any], T], pausing: bool = False) -> T:
        try:
            client = self._opened()
            try:
                return ask(client)
            except _pymilvus().MilvusException as error:
                if error.code != NOT_LOADED:
                    raise
                _load_ours(client)
                return ask(client)
        except _foreign_errors() as error:
            if pausing:
                self._paused_until = time.monotonic() + PAUSE_S
            self._known.clear()  # it may have come back empty
            raise SearchError("milvus", f"The vector index did not do it: {error}", permanent=False) from error

    def _opened(self) -> Any:
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client = _pymilvus().MilvusClient(self.uri, token=self._token, timeout=SEARCH_TIMEOUT_S, dedicated=True)
                self._pid = os.getpid()
            return self._client


def _paused() -> SearchError:
    return SearchError("milvus", "The vector index did not answer a moment ago; searching without it.", permanent=False)


def _make_collection(client: Any, name: str, dim: int) -> None:
    kinds = _pymilvus().DataType
    if client.has_collection(name, timeout=WRITE_TIMEOUT_S):
        client.load_collection(name, timeout=WRITE_TIMEOUT_S)
        return
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", kinds.INT64, is_primary=True)
    schema.add_field("base_id", kinds.INT64)
    schema.add_field("vector", kinds.FLOAT_VECTOR, dim=dim)
    indexes = client.prepare_index_params()
    # FLAT is exact and, up to some 50,000 passages, fast; Milvus Lite's HNSW loses passages for good.
    indexes.add_index("vector", index_type="FLAT", metric_type="COSINE")
    client.create_collection(name, schema=schema, index_params=indexes, timeout=WRITE_TIMEOUT_S)


def _load_ours(client: Any) -> None:
    for name in client.list_collections(timeout=SEARCH_TIMEOUT_S):
        if name.startswith(OURS):
            client.load_collection(name, timeout=WRITE_TIMEOUT_S)


def _collection(embedding: str) -> str:
    """A name of letters, digits and _ that two embeddings never share."""
    plain = re.sub(r"\W+", "_", embedding, flags=re.ASCII)[:60]
    return f"{OURS}{plain}_{hashlib.sha256(embedding.encode()).hexdigest()[:8]}"


def _foreign_errors() -> tuple[type[Exception], ...]:
    """What pymilvus raises; a call that ran out of time reaches us as gRPC's own error."""
    import grpc

    return (_pymilvus().MilvusException, grpc.RpcError, OSError, ValueError)


def preload() -> None:
    """Import now what the first use would; opens nothing, so that it may be done before a fork."""
    _pymilvus()


@functools.cache
def _pymilvus() -> Any:
    if "pymilvus" in sys.modules or "pandas" in sys.modules:
        import pymilvus
    else:
        with _without_pandas():
            import pymilvus
    # Each failure reaches us as an exception; eighty lines of traceback a search, with the request in them, help nobody.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return pymilvus


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Stand-ins for pandas while pymilvus is imported: it wants pandas only for data frames, which we never pass,
    and the real one costs each process 65 MB and two seconds."""
    pandas, api, types = (ModuleType(name) for name in ("pandas", "pandas.api", "pandas.api.types"))
    pandas.DataFrame = type("DataFrame", (), {})  # type: ignore[attr-defined]
    pandas.Series = type("Series", (), {})  # type: ignore[attr-defined]
    for name in ("infer_dtype", "is_array_like", "is_float", "is_list_like", "is_scalar"):
        setattr(types, name, _never)
    names = {"pandas": pandas, "pandas.api": api, "pandas.api.types": types}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _never(*_args: object) -> bool:
    raise SearchError("milvus", "pymilvus asked pandas for help; data frames are not supported here.", permanent=True)

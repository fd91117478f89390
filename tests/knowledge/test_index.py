"""The vector index, against a real Milvus Lite server."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from knowledge.index import VectorIndex
from tests.servers import milvus_server


def test_what_was_indexed_is_found_after_the_server_started_again(tmp_path: Path):
    rows = np.eye(3, 384, dtype=np.float32)
    with milvus_server(tmp_path) as url, contextlib.closing(VectorIndex(url)) as index:
        index.upsert("builtin", [(1, 7), (2, 7), (3, 8)], rows)
        index.flush("builtin")
    with milvus_server(tmp_path) as url, contextlib.closing(VectorIndex(url)) as index:
        ids, cosines = index.search("builtin", [7], rows[1:2], 5)[0]
        assert ids.tolist() == [2, 1]
        assert cosines[0] > 0.99
        assert index.ids("builtin", 9) == {1, 2, 3}
        index.upsert("builtin", [(4, 7)], rows[:1])
        assert index.ids("builtin", 9) == {1, 2, 3, 4}

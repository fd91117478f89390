from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bot.sse import Chunk, ThinkFilter, read_chunks


def event(**delta: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta}]}, ensure_ascii=False).encode() + b"\n\n"


@given(st.text(max_size=60), st.lists(st.integers(0, 400), max_size=8))
def test_a_stream_reads_the_same_wherever_the_network_cuts_it(text: str, cuts: list[int]) -> None:
    said = text.encode("utf-8", "replace").decode()
    stream = b": hello\r\n\r\n" + b"".join(event(content=char) for char in said) + b"data: [DONE]\n\n"
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    blocks = [stream[start:end] for start, end in pairwise(places)]
    chunks: list[Chunk] = list(read_chunks(iter(blocks), "main/chat"))
    assert "".join(chunk.text for chunk in chunks) == said
    assert chunks[-1].ended


@given(st.sampled_from(["", " \n"]), st.text("ab<>/think \n", max_size=20), st.text("ab<think", max_size=10), st.integers(1, 5))
def test_thinking_is_dropped_wherever_it_is_cut(lead: str, thought: str, answer: str, size: int) -> None:
    thought = thought.replace("</think>", "")
    whole = f"{lead}<think>{thought}</think>\n\n{answer}"
    think = ThinkFilter()
    shown = "".join(think.feed(whole[at : at + size]) for at in range(0, len(whole), size)) + think.close()
    _, _, expected = whole.partition("</think>")
    assert shown == expected.lstrip()


@given(st.text("ab<think>/ ", max_size=20).filter(lambda text: not text.lstrip().startswith("<think>")), st.integers(1, 5))
def test_an_answer_without_thinking_is_left_as_it_is(answer: str, size: int) -> None:
    think = ThinkFilter()
    shown = "".join(think.feed(answer[at : at + size]) for at in range(0, len(answer), size)) + think.close()
    assert shown == answer

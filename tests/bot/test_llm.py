from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from bot.breaker import Breaker
from bot.errors import ModelError
from bot.llm import Endpoint, Llm, Timeouts, in_turn
from bot.types import Usage
from tests.conftest import free_port
from tests.emulators.model import EMBEDDING_MODEL, Behaviour, ModelEmulator

ASKED = [{"role": "system", "content": "You are a shop."}, {"role": "user", "content": "How long does a refund take?"}]


def listen(llm: Llm, *groups: list[Endpoint]) -> tuple[str, ModelError | None]:
    """What was said, and the error that ended it."""
    said: list[str] = []
    try:
        said += llm.chat(groups, ASKED)
    except ModelError as error:
        return "".join(said), error
    return "".join(said), None


def nobody(model: str = "chat-large") -> Endpoint:
    """An endpoint where nothing listens."""
    return Endpoint("nobody", f"http://127.0.0.1:{free_port()}/v1", "sk-nobody", model)


def test_an_answer_streams_and_tells_its_usage_and_price(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_say("Three days.")
    stream = llm.chat([[endpoint]], ASKED, temperature=0.3, max_tokens=50)
    pieces = list(stream)
    assert len(pieces) > 1
    assert "".join(pieces) == "Three days."
    assert stream.outcome.endpoint == endpoint
    assert stream.outcome.usage == Usage(11, 4)
    assert not stream.outcome.estimated
    assert stream.outcome.cost == pytest.approx((11 * 2.0 + 4 * 8.0) / 1_000_000)
    body = model.was_asked[-1].body
    assert (body["temperature"], body["max_tokens"], body["stream_options"]) == (0.3, 50, {"include_usage": True})
    assert "How long does a refund take?" in model.was_asked[-1].text


def test_one_connection_serves_one_answer_after_another(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    for _ in range(5):
        assert listen(llm, [endpoint]) == ("Three days.", None)
    assert model.connections == 1


def test_two_hundred_answers_at_once_share_one_client(endpoint: Endpoint, model: ModelEmulator) -> None:
    model.always("Fine.", delay_s=0.3)
    llm = Llm()
    said: list[tuple[str, ModelError | None]] = []
    askers = [threading.Thread(target=lambda: said.append(listen(llm, [endpoint]))) for _ in range(200)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(20)
    llm.close()
    assert said == [("Fine.", None)] * 200


def test_reasoning_is_never_shown(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_say("Three days.", reasoning="They want a refund. Lie to them.")
    assert listen(llm, [endpoint]) == ("Three days.", None)
    model.will_say("<think>\nLie to them.</think>\n\nThree <b>days</b>.")
    assert listen(llm, [endpoint]) == ("Three <b>days</b>.", None)
    model.will_say("<table> tags stay, <think> in the middle too")
    assert listen(llm, [endpoint]) == ("<table> tags stay, <think> in the middle too", None)


def test_an_answer_in_one_piece_is_taken_too(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_say("Three days.", whole=True)
    assert listen(llm, [endpoint]) == ("Three days.", None)


def test_usage_is_estimated_where_the_endpoint_does_not_tell(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_say("七个工作日", usage=False)
    stream = llm.chat([[endpoint]], ASKED)
    list(stream)
    assert stream.outcome.estimated
    assert stream.outcome.usage.completion_tokens == 5
    assert stream.outcome.usage.prompt_tokens > 10


@pytest.mark.parametrize("parameter", ["stream_options", "temperature", "max_tokens"])
def test_a_parameter_that_an_endpoint_refuses_is_left_out_from_then_on(
    parameter: str, llm: Llm, endpoint: Endpoint, model: ModelEmulator
) -> None:
    model.refuses.add(parameter)
    for _ in range(2):
        assert "".join(llm.chat([[endpoint]], ASKED, temperature=0.3, max_tokens=5)) == "Three days."
    assert [parameter in asked.body for asked in model.was_asked] == [True, False, False]
    if parameter == "max_tokens":
        assert model.was_asked[-1].body["max_completion_tokens"] == 5


def test_a_refusal_for_another_reason_does_not_cost_the_usage(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_fail(400, times=2)
    assert listen(llm, [endpoint])[1] is not None
    assert listen(llm, [endpoint])[1] is None
    assert "stream_options" in model.was_asked[-1].body


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again(status: int, llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_fail(status, times=2)
    stream = llm.chat([[endpoint]], ASKED)
    assert "".join(stream) == "Three days."
    assert len(model.was_asked) == 3
    assert len(stream.outcome.attempts) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_cannot_pass_is_not_tried_again(status: int, llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.always(status=status)
    said, error = listen(llm, [replace(endpoint, model="chat-large")])
    assert said == ""
    assert error is not None
    assert error.permanent
    assert (error.code, error.status) == ("refused", status)
    assert len(model.was_asked) <= 2  # a 400 may have been about stream_options


def test_a_connection_that_drops_before_the_first_token_is_tried_again(
    llm: Llm, endpoint: Endpoint, model: ModelEmulator
) -> None:
    model.will(Behaviour(drop=True), times=2)
    assert listen(llm, [endpoint]) == ("Three days.", None)


def test_a_stream_that_breaks_before_the_first_token_is_tried_again(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_say("never", break_after=0)
    assert listen(llm, [endpoint]) == ("Three days.", None)


@pytest.mark.parametrize(("header", "least"), [("3", 3.0), ("0.5", 0.5)])
def test_retry_after_is_honoured(header: str, least: float, endpoint: Endpoint, model: ModelEmulator) -> None:
    waits: list[float] = []
    llm = Llm(sleep=waits.append)
    model.will_fail(429, retry_after=header)
    assert listen(llm, [endpoint]) == ("Three days.", None)
    llm.close()
    assert len(waits) == 1
    assert waits[0] >= least


def test_a_long_retry_after_fails_over_instead(endpoint: Endpoint, model: ModelEmulator) -> None:
    waits: list[float] = []
    llm = Llm(sleep=waits.append)
    with ModelEmulator() as other:
        other.always("From the other.")
        model.will_fail(429, retry_after="3600")
        assert listen(llm, [endpoint], [replace(endpoint, base_url=other.base_url)]) == ("From the other.", None)
    llm.close()
    assert waits == []


def test_pauses_between_tries_grow_and_differ(endpoint: Endpoint, model: ModelEmulator) -> None:
    waits: list[float] = []
    llm = Llm(sleep=waits.append)
    for _ in range(4):
        model.will_fail(503, times=2)
        assert listen(llm, [endpoint])[1] is None
    llm.close()
    assert len(set(waits)) == 8
    assert all(0.15 <= first <= 0.45 and 0.3 <= second <= 0.9 for first, second in zip(waits[::2], waits[1::2], strict=True))


def test_the_next_provider_speaks_when_the_first_cannot(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    stream = llm.chat([[nobody()], [endpoint]], ASKED)
    assert "".join(stream) == "Three days."
    assert stream.outcome.endpoint == endpoint
    assert {attempt["endpoint"] for attempt in stream.outcome.attempts} == {"nobody/chat-large"}


def test_silence_before_the_first_token_fails_over_at_once(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    with ModelEmulator() as silent:
        silent.always("late", delay_s=30)
        began = time.monotonic()
        assert listen(llm, [replace(endpoint, base_url=silent.base_url)], [endpoint]) == ("Three days.", None)
        assert time.monotonic() - began < 2
        assert len(silent.was_asked) == 1


def test_comments_that_keep_the_connection_open_are_no_tokens(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.always("late", delay_s=30, comments_s=0.05)
    began = time.monotonic()
    said, error = listen(llm, [endpoint])
    assert (said, error and error.code) == ("", "timeout")
    assert time.monotonic() - began < 2


def test_a_model_that_speaks_slowly_is_waited_for(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_say("one two three four", tokens_per_s=8)  # longer than any single time-out of these tests
    assert listen(llm, [endpoint]) == ("one two three four", None)


@pytest.mark.parametrize("how", [{"break_after": 2}, {"hang_after": 2}, {"error_after": 2}])
def test_a_stream_that_dies_in_the_middle_ends_with_what_was_said(
    how: dict[str, int], llm: Llm, endpoint: Endpoint, model: ModelEmulator
) -> None:
    model.will(Behaviour("Three days and more.", **how))  # type: ignore[arg-type]
    with ModelEmulator() as other:
        said, error = listen(llm, [endpoint], [replace(endpoint, base_url=other.base_url)])
        assert not other.was_asked  # nobody else goes on with what one began
    assert said == "Three"
    assert error is not None
    assert (error.code, error.said, error.permanent) == ("broken_stream", "Three", False)


def test_a_few_malformed_chunks_are_passed_over(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_say("Three days.", malformed=3)
    stream = llm.chat([[endpoint]], ASKED)
    assert "".join(stream) == "Three days."
    assert stream.outcome.malformed == 3


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hello\n\n",
        b"data: nonsense\n\n" * 30,
        b"data: [1, 2]\n\ndata: [DONE]\n\n",
        b'data: {"choices": 5}\n\ndata: [DONE]\n\n',
        b'data: {"choices": [{"delta": {"content": 7}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
        b'data: {"error": "out of order"}\n\n',
        b"\xff\xfe\x00",
    ],
)
def test_a_stream_of_nonsense_is_a_clear_error(raw: bytes, llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.always(raw=raw)
    said, error = listen(llm, [endpoint])
    assert said == ""
    assert error is not None
    assert error.code in ("unusable", "broken_stream", "unreachable")
    assert "main/chat-large" in str(error)


def test_a_stream_without_done_is_whole_when_it_told_how_it_ended(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_say("Three days.", done=False)
    assert listen(llm, [endpoint]) == ("Three days.", None)


@pytest.mark.parametrize(("told", "finish"), [("stop", "stop"), ("length", "length"), ("content_filter", "filtered")])
def test_how_it_ended_is_told(told: str, finish: str, llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_say("Three days.", finish=told)
    stream = llm.chat([[endpoint]], ASKED)
    list(stream)
    assert stream.outcome.finish == finish


def test_an_answer_without_end_is_ended(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    event = b'data: {"choices": [{"delta": {"content": "' + b"endless " * 10_000 + b'"}}]}\n\n'
    model.will(Behaviour(raw=event * 10))
    stream = llm.chat([[endpoint]], ASKED)
    assert 200_000 < len("".join(stream)) < 800_000
    assert stream.outcome.finish == "length"


def test_who_stops_listening_hangs_up(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.will_say("word " * 200, tokens_per_s=50)
    stream = llm.chat([[endpoint]], ASKED)
    assert next(piece for piece in stream if piece)
    stream.close()
    assert model.hung_up.wait(5)
    assert stream.outcome.usage.completion_tokens > 0


def test_a_broken_endpoint_rests_and_is_probed_once(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    down = nobody()
    for _ in range(2):  # three attempts each
        assert listen(llm, [down], [endpoint])[1] is None
    stream = llm.chat([[down], [endpoint]], ASKED)
    list(stream)
    assert stream.outcome.attempts == [{"endpoint": "nobody/chat-large", "error": "resting after failures"}]
    assert llm.breaker(down).state == "open"
    assert llm.breaker(endpoint).state == "closed"


def test_a_fault_of_the_listener_leaves_a_probe_free(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    breaker = llm.breaker(endpoint)
    for _ in range(3):
        stream = llm.chat([[endpoint]], ASKED)
        next(iter(stream))
        stream.close()
    assert breaker.state == "closed"
    assert listen(llm, [endpoint])[1] is None


def test_what_a_failed_try_said_of_itself_is_forgotten(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    with ModelEmulator() as other:
        model.will_say("", reasoning="hm", finish="length")
        other.will_say("Three days.", usage=False)
        stream = llm.chat([[endpoint], [replace(endpoint, base_url=other.base_url)]], ASKED)
        assert "".join(stream) == "Three days."
    assert (stream.outcome.finish, stream.outcome.estimated) == ("stop", True)
    assert stream.outcome.usage.completion_tokens == 4


def test_a_breaker_opens_rests_and_lets_one_probe_decide() -> None:
    now = 0.0
    breaker = Breaker(failures=2, open_s=10, clock=lambda: now)
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.allow()
    breaker.failed()
    assert not breaker.allow()
    now = 10.0
    assert breaker.state == "half_open"
    assert breaker.allow()
    assert not breaker.allow()  # the probe is on its way
    breaker.failed()
    assert not breaker.allow()
    now = 20.0
    assert breaker.allow()
    breaker.left()
    assert breaker.allow()
    breaker.succeeded()
    assert breaker.allow()
    assert breaker.state == "closed"


def test_load_is_shared_by_weight(endpoint: Endpoint) -> None:
    light, heavy, spare = (replace(endpoint, provider=str(weight), weight=weight) for weight in (1, 3, 0))
    first = Counter(in_turn([spare, light, heavy])[0].weight for _ in range(4000))
    assert first[0] == 0
    assert 0.7 < first[3] / 4000 < 0.8
    assert all(in_turn([spare, light, heavy])[-1] is spare for _ in range(20))


def test_secrets_never_stand_in_errors(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    for key in ("sk-very-secret-123", "sk-very\nsecret-123", "sk-very-secret-密钥"):
        _, error = listen(llm, [replace(endpoint, api_key=key)])
        assert error is not None
        assert "secret" not in f"{error!r} {error} {error.__cause__!r}"
    assert endpoint.api_key not in repr(endpoint)
    model.will_fail(401, message=f"Incorrect key {endpoint.api_key}")
    assert endpoint.api_key not in str(listen(llm, [endpoint])[1])


@pytest.mark.parametrize("base_url", ["http://", "nonsense", "http://127.0.0.1:99999/v1", "ftp://example.com"])
def test_a_base_url_that_is_none_is_a_clear_error(base_url: str, llm: Llm, endpoint: Endpoint) -> None:
    said, error = listen(llm, [replace(endpoint, base_url=base_url)])
    assert said == ""
    assert error is not None


def test_no_model_at_all_is_a_clear_error(llm: Llm) -> None:
    assert isinstance(listen(llm)[1], ModelError)


def test_a_child_process_opens_connections_of_its_own(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    assert listen(llm, [endpoint])[1] is None
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said, _ = listen(llm, [endpoint])
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "Three days."
    os.waitpid(child, 0)
    assert model.connections == 2
    assert listen(llm, [endpoint])[1] is None


def test_a_model_that_reasons_too_long_for_short_answers_is_asked_once(
    llm: Llm, endpoint: Endpoint, model: ModelEmulator
) -> None:
    model.will_say("", reasoning="They want three words. " * 20, finish="length")
    with pytest.raises(ModelError, match="without a word"):
        llm.complete([[endpoint]], ASKED)
    with pytest.raises(ModelError):
        llm.complete([[endpoint]], ASKED)
    assert len(model.was_asked) == 1
    assert listen(llm, [endpoint]) == ("Three days.", None)


def test_texts_are_embedded_in_order_and_in_batches(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    embedder = replace(endpoint, model=EMBEDDING_MODEL)
    texts = [f"text number {n}" for n in range(150)]
    vectors = llm.embed(embedder, texts)
    assert [len(asked.body["input"]) for asked in model.was_asked] == [64, 64, 22]
    assert vectors[149] == pytest.approx(llm.embed(embedder, [texts[149]])[0])
    assert llm.embed(embedder, []) == []


def test_a_smaller_batch_is_tried_where_an_endpoint_refuses(llm: Llm, endpoint: Endpoint, model: ModelEmulator) -> None:
    model.most_embedded = 10
    vectors = llm.embed(replace(endpoint, model=EMBEDDING_MODEL), [f"text {n}" for n in range(25)])
    assert len(vectors) == 25
    assert [len(asked.body["input"]) for asked in model.was_asked] == [25, 10, 10, 5]


def test_embedding_with_a_wrong_key_is_a_model_error(llm: Llm, endpoint: Endpoint) -> None:
    with pytest.raises(ModelError, match="401"):
        llm.embed(replace(endpoint, model=EMBEDDING_MODEL, api_key="wrong-key"), ["text"])


def test_the_time_between_tokens_may_differ_from_the_first(endpoint: Endpoint, model: ModelEmulator) -> None:
    llm = Llm(Timeouts(connect_s=1, first_token_s=0.2, between_tokens_s=5))
    model.will_say("one two", tokens_per_s=2)
    assert listen(llm, [endpoint]) == ("one two", None)
    llm.close()

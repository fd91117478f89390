"""One question and its answer. `answer` is the whole flow, top to bottom; every step is a plain function."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bot import builtin, citations, config, prompt, rewrite
from bot.endpoint import BUILTIN, Endpoint, Outcome
from bot.errors import BotError, ConfigError, ModelError, ServiceError
from bot.language import answer_language
from bot.memory import HISTORY_TOKENS, estimate_tokens, fit
from bot.moderation import StreamGuard, passed
from bot.normalise import normalise, whole_characters
from bot.smalltalk import Kind, reply_text, small_talk
from bot.texts import say
from bot.trace import Trace
from bot.types import Citation, Delta, Emit, Finish, Passage, Replace, Reply, Status, Turn, Usage, Verdict

if TYPE_CHECKING:  # loading `openai` takes a second; who only wants the values does not wait for it
    from bot.llm import Llm


@dataclass(frozen=True)
class Parts:
    """What the agent needs from outside, each a function or a value. A function may raise ServiceError.

    moderate: the verdict on a question. guard: a fresh guard for an answer (also asked about follow-ups and citations).
    recall: the turn with history, summary and facts. search: the best passages for a question, strongest first, whatever
    their score: the agent cuts at the bot's min_score. nearby: passages that stand near turn.passages,
    and pairs of the same bases, for follow-ups. stopped: whether the user asked to stop; called between pieces, so it is
    cheap. models: the primary model's endpoints, then each fallback model's; BUILTIN, or nothing, is the builtin model.
    simplify: traditional Chinese folded into simplified.
    """

    moderate: Callable[[str], Verdict]
    guard: Callable[[], StreamGuard]
    recall: Callable[[Turn], Turn]
    search: Callable[[str, Turn], Sequence[Passage]]
    llm: Llm
    models: Sequence[Sequence[Endpoint]] = ()
    stopped: Callable[[], bool] = lambda: False
    nearby: Callable[[Turn], Sequence[Passage]] = lambda _: ()
    simplify: Callable[[str], str] = str
    trace: Trace = field(default_factory=Trace)

    @property
    def models_only(self) -> list[list[Endpoint]]:
        """The groups up to the builtin model, which speaks when all of these failed."""
        groups: list[list[Endpoint]] = []
        for group in self.models:
            if BUILTIN in group:
                break
            groups.append(list(group))
        return [group for group in groups if group]

    @property
    def builtin_stands_by(self) -> bool:
        """Whether the builtin model is one of the bot's, and so answers when no other can."""
        return any(BUILTIN in group for group in self.models)


def answer(turn: Turn, parts: Parts, emit: Emit) -> Reply:
    """Answer one question; every step of the flow stands here, in order.

    Emits Status, Delta and Replace. A required step (moderation, the model) that fails gives a Reply with finish error, a
    sentence for the user and the detail for the operator; an optional one degrades and says so in the trace.
    """
    asked = normalise(turn.incoming.text)
    turn = replace(turn, incoming=replace(turn.incoming, text=asked), question=asked)
    if not asked:
        return _say(_sentence("error.empty", turn), turn, emit)
    emit(Status("moderating"))
    try:
        allowed = _moderate(turn, parts)
    except ServiceError as error:
        return _failed(turn, "moderation", "error.moderation", error)
    if allowed is None:
        return _say(_refusal(turn), replace(turn, question=""), emit, "blocked")
    turn, asked = allowed, allowed.question
    if wants_handoff(turn):
        return _handoff(turn, emit)
    kind = small_talk(asked)
    if kind and not parts.models_only:
        return _converse(turn, parts, emit, False, kind)
    emit(Status("recalling"))
    turn = _recall(turn, parts)
    searched = bool(turn.bot.knowledge.bases) and kind is None
    if searched:
        turn = _rewrite(turn, parts)
        emit(Status("retrieving"))
        try:
            turn = _retrieve(turn, parts)
        except ServiceError as error:
            if turn.bot.knowledge.when_empty != "answer" or not parts.models_only:
                return _failed(turn, "search", "error.search", error)  # nothing to answer from
            searched = False
        if searched and not turn.passages and turn.bot.knowledge.when_empty == "handoff":
            return _handoff(turn, emit)
        if searched and not turn.passages and turn.bot.knowledge.when_empty == "refuse":
            return _say(_sentence("refused", turn), turn, emit)
    emit(Status("thinking"))
    return _converse(turn, parts, emit, searched, kind)


def wants_handoff(turn: Turn) -> bool:
    """Whether the question holds one of the bot's handoff keywords; one of Latin letters stands as a word of its own."""
    if not turn.bot.handoff.enabled:
        return False
    text = turn.question.casefold()
    for keyword in (word.strip().casefold() for word in turn.bot.handoff.keywords):
        edge = r"(?<![a-z0-9]){}(?![a-z0-9])" if keyword.isascii() else "{}"
        if keyword and re.search(edge.format(re.escape(keyword)), text):
            return True
    return False


# --- the steps -----------------------------------------------------------------------------------------------------


def _moderate(turn: Turn, parts: Parts) -> Turn | None:
    """The turn as it may go on: the question, and of the caller's own history what the model will read. None: refused."""
    with parts.trace.step("moderate", characters=len(turn.question)) as span:
        verdict = parts.moderate(turn.question)
        history = turn.incoming.history
        if history is not None:
            history = tuple(fit([replace(said, text=normalise(said.text)) for said in history], HISTORY_TOKENS))
        earlier = [parts.moderate(said.text) if said.role == "user" else None for said in history or ()]
        verdicts = [verdict, *(one for one in earlier if one)]
        span.update(action=verdict.action, words=sorted({match.word for one in verdicts for match in one.matches}))
        if any(one.blocked for one in verdicts):
            span["action"] = "block"
            return None
    if history is not None:
        history = tuple(replace(said, text=one.text) if one else said for said, one in zip(history, earlier, strict=True))
    incoming = replace(turn.incoming, text=verdict.text, history=history)
    return replace(turn, incoming=incoming, question=verdict.text)


def _recall(turn: Turn, parts: Parts) -> Turn:
    """The turn with what was said before: the caller's own history, else what memory holds."""
    with parts.trace.step("recall") as span:
        if turn.incoming.history is not None:
            turn = replace(turn, history=turn.incoming.history)
        else:
            try:
                turn = parts.recall(turn)
            except ServiceError as error:
                span["error"] = str(error)
        span.update(messages=len(turn.history), facts=len(turn.facts), summary=bool(turn.summary))
        return turn


def _rewrite(turn: Turn, parts: Parts) -> Turn:
    """The turn with a question that stands alone, where it leans on what was said before."""
    if not rewrite.needs_context(turn.question, turn.history):
        return turn
    with parts.trace.step("rewrite", question=turn.question) as span:
        question = None
        if parts.models_only:
            try:
                text, outcome = parts.llm.complete(parts.models_only, rewrite.messages(turn.question, turn.history), 120)
                question = rewrite.usable(text, turn.question)
                span.update(model=outcome.endpoint.name if outcome.endpoint else "", **_spent(outcome))
            except ModelError as error:
                span["error"] = str(error)
        turn = replace(turn, question=question or rewrite.by_rule(turn.question, turn.history))
        span.update(out=turn.question, by="model" if question else "rule")
        return turn


def _retrieve(turn: Turn, parts: Parts) -> Turn:
    """The turn with the passages that are strong enough, and those that are not. Raises ServiceError."""
    knowledge = turn.bot.knowledge
    with parts.trace.step("retrieve", question=turn.question, bases=list(knowledge.bases)) as span:
        found = parts.search(turn.question, turn)
        strong = tuple(passage for passage in found if passage.score >= knowledge.min_score)[: knowledge.top_k]
        near = tuple(passage for passage in found if passage not in strong)
        span.update(found=len(strong), weak=len(near), passages=[_shown(passage) for passage in (*strong, *near)[:10]])
        return replace(turn, passages=strong, near=near)


def _converse(turn: Turn, parts: Parts, emit: Emit, searched: bool, kind: Kind | None) -> Reply:
    """The answer, said as it comes: by the models, or by the builtin one where there is none or none can speak."""
    if parts.models_only:
        context = min(endpoint.context for group in parts.models_only for endpoint in group)
        messages, held = prompt.compose(turn, turn.incoming.text, context, searched)
        asked = replace(turn, passages=turn.passages[:held])
        said, outcome = _ask_models(messages, asked, parts, emit)
        can_stand_in = parts.builtin_stands_by and (searched or kind is not None)
        if said.broken is None or said.text or said.broken.said or not can_stand_in:
            return _finish(asked, parts, emit, said, outcome)
    elif not parts.builtin_stands_by and turn.bot.model != config.BUILTIN:
        return _failed(turn, "refused", "error.model", ConfigError(f"No provider offers {turn.bot.model}."))
    with parts.trace.step("builtin", passages=len(turn.passages)) as span:
        said = _Said(parts.guard())
        if kind is not None:
            text = reply_text(kind, turn.bot, _locale(turn))
        else:
            text = builtin.answer(turn, turn.incoming.text, parts.simplify, searched)
        said.listen(builtin.pieces(text), parts.stopped, emit)
        span["out"] = said.text
    return _finish(turn, parts, emit, said, Outcome(BUILTIN, usage=_read_and_said(turn, said.text)))


def _ask_models(messages: list[prompt.Message], turn: Turn, parts: Parts, emit: Emit) -> tuple[_Said, Outcome]:
    """What a model said, and what is known of it."""
    said = _Said(parts.guard())
    with parts.trace.step("model", messages=messages) as span:
        stream = parts.llm.chat(parts.models_only, messages, temperature=turn.bot.temperature, max_tokens=turn.bot.max_tokens)
        said.listen(whole_characters(iter(stream)), parts.stopped, emit)
        stream.close()
        outcome = stream.outcome
        span.update(
            model=outcome.endpoint.name if outcome.endpoint else "",
            out=said.text,
            first_token_ms=outcome.first_token_ms,
            malformed=outcome.malformed,
            attempts=outcome.attempts,
            **_spent(outcome),
        )
        if said.broken is not None:
            span["error"] = str(said.broken)
    return said, outcome


class _Said:
    """What was said so far, as the user sees it."""

    def __init__(self, guard: StreamGuard) -> None:
        self.guard = guard
        self.text = ""
        self.stopped = False
        self.broken: ModelError | None = None

    def listen(self, pieces: Iterator[str], stopped: Callable[[], bool], emit: Emit) -> None:
        """Say the pieces as moderation lets them go, until they end, break off, are stopped or forbidden."""
        try:
            for piece in pieces:
                if piece:
                    self._show(self.guard.feed(piece), emit)
                if self.guard.blocked:
                    return
                if stopped():
                    self.stopped = True
                    break
        except ModelError as error:
            self.broken = error
        self._show(self.guard.close(), emit)

    def _show(self, visible: str, emit: Emit) -> None:
        if visible and not self.guard.blocked:
            self.text += visible
            emit(Delta(visible))


def _finish(turn: Turn, parts: Parts, emit: Emit, said: _Said, outcome: Outcome) -> Reply:
    """The reply: citations, clean-up, and how it ended."""
    model = config.BUILTIN if outcome.endpoint is BUILTIN else outcome.endpoint.name if outcome.endpoint else ""
    reply = Reply("", "stop", usage=outcome.usage, model=model, cost=outcome.cost, turn=turn)
    with parts.trace.step("finish", words=sorted({match.word for match in said.guard.matches})) as span:
        text = said.text.strip()
        if turn.passages:  # else its numbers in brackets are no marks
            text = citations.clean(text, len(turn.passages), turn.bot.knowledge.cite).strip()
        allowed: str | None = text
        if said.guard.blocked:
            allowed = None
        elif text not in said.text:  # marks that were taken out may have stood inside a forbidden word
            allowed = passed(parts.guard(), text)
        if allowed is None or outcome.finish == "filtered":
            span["blocked"] = True
            refusal = _refusal(turn)
            emit(Replace(refusal))
            return replace(reply, text=refusal, finish="blocked")
        cited = _allowed_citations(citations.cited(allowed, turn.passages), parts) if turn.bot.knowledge.cite else ()
        span.update(characters=len(allowed), cited=[citation.n for citation in cited])
    reply = replace(reply, text=allowed, citations=cited)
    if (broken := said.broken) is not None:
        sentence = _sentence("error.model_broken" if allowed else "error.model", turn)
        text = f"{allowed}\n\n{sentence}" if allowed else sentence
        return replace(reply, text=text, finish="error", error_code=broken.code, error_detail=str(broken))
    if said.stopped:
        return replace(reply, text=allowed or _sentence("stopped", turn), finish="stopped")
    if not allowed:
        sentence, detail = _sentence("error.model", turn), f"{model} said nothing that can be shown."
        return replace(reply, text=sentence, finish="error", error_code="unusable", error_detail=detail)
    return replace(reply, finish="length") if outcome.finish == "length" else reply


# --- short answers -------------------------------------------------------------------------------------------------


def _say(text: str, turn: Turn, emit: Emit, finish: Finish = "stop") -> Reply:
    """A sentence of ours as the whole answer."""
    emit(Delta(text))
    return Reply(text, finish, model=config.BUILTIN if finish == "stop" else "", turn=turn)


def _handoff(turn: Turn, emit: Emit) -> Reply:
    return _say(turn.bot.handoff.message or _sentence("handoff", turn), turn, emit, "handoff")


def _refusal(turn: Turn) -> str:
    return turn.bot.moderation.on_block or _sentence("blocked", turn)


def _failed(turn: Turn, code: str, key: str, error: BotError) -> Reply:
    return Reply(_sentence(key, turn), "error", error_code=code, error_detail=str(error), turn=turn)


def _sentence(key: str, turn: Turn) -> str:
    return say(key, _locale(turn))


def _locale(turn: Turn) -> str:
    return answer_language(turn.bot.language, turn.incoming.text)


# --- for the trace -------------------------------------------------------------------------------------------------


def _spent(outcome: Outcome) -> dict[str, Any]:
    usage: Usage = outcome.usage
    return {"tokens": [usage.prompt_tokens, usage.completion_tokens], "estimated": outcome.estimated, "cost": outcome.cost}


def _shown(passage: Passage) -> dict[str, Any]:
    return {
        "id": passage.chunk_id,
        "title": passage.title,
        "heading": passage.heading,
        "score": round(passage.score, 4),
        "dense": passage.dense,
        "lexical": passage.lexical,
        "text": passage.text[:200],
    }


def _read_and_said(turn: Turn, text: str) -> Usage:
    """What the builtin model read and said, in estimated tokens: callers count on figures."""
    read = [turn.incoming.text, *(passage.text for passage in turn.passages)]
    return Usage(sum(map(estimate_tokens, read)), estimate_tokens(text))


def _allowed_citations(cited: Sequence[Citation], parts: Parts) -> tuple[Citation, ...]:
    """The citations as they may leave: a document may hold what the bot may not say."""
    kept = []
    for citation in cited:
        title, snippet = passed(parts.guard(), citation.title), passed(parts.guard(), citation.snippet)
        kept.append(replace(citation, title=title or f"[{citation.n}]", snippet=snippet or ""))
    return tuple(kept)

"""Questions that the user may want to ask next, in the language of the one he asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from bot.agent import Parts
from bot.builtin import last_heading, terms
from bot.config import BUILTIN
from bot.errors import ModelError, ServiceError
from bot.language import answer_language, detect, language_name
from bot.moderation import passed
from bot.texts import say
from bot.types import Passage, Reply, Turn

LONGEST_CHARS = 80
MOST_WEAK = 4  # passages that were too weak to answer from
SAME = 0.7  # share of common terms above which two questions are one
_BULLET = re.compile(r"^\s*(?:[-*•·]|\d{1,2}\s*[.)、:：]|[Qq]\d*\s*[:：])\s*")


def suggest(turn: Turn, reply: Reply, parts: Parts) -> list[str]:
    """At most turn.bot.followups.count questions; none after a refusal, a failure or a stop. Never raises ModelError.

    A model's suggestions are taken when it gives any that can be used; else they come from what stands near what was found.
    """
    turn = reply.turn or turn
    wanted = turn.bot.followups
    if not wanted.enabled or wanted.count == 0 or reply.finish not in ("stop", "length") or not turn.question:
        return []
    language = answer_language("auto", turn.incoming.text or turn.question)
    with parts.trace.step("followups", language=language) as span:
        questions: list[str] = []
        if parts.models_only and reply.model != BUILTIN:
            try:
                questions = _usable(_asked_of_model(turn, reply, parts, language, span), turn, language, parts)
            except ModelError as error:
                span["error"] = str(error)
        if not questions:
            questions = _usable(_from_documents(turn, reply, parts, language, span), turn, language, parts)
        span["questions"] = questions[: wanted.count]
        return questions[: wanted.count]


def _asked_of_model(turn: Turn, reply: Reply, parts: Parts, language: str, span: dict[str, object]) -> list[str]:
    topics = "; ".join(_document_questions((*turn.passages, *turn.near), language))[:600]
    instructions = (
        f"Suggest {turn.bot.followups.count} short questions that this user is likely to ask next, in the user's voice, in "
        f"{language_name(language)}, each at most 20 words. Do not repeat what was asked. "
        "Answer with a JSON list of strings and nothing else."
    )
    talk = f"Question: {turn.question}\n\nAnswer: {reply.text[:1500]}" + (f"\n\nTopics: {topics}" if topics else "")
    messages = [{"role": "system", "content": instructions}, {"role": "user", "content": talk}]
    text, outcome = parts.llm.complete(parts.models_only, messages, max_tokens=200)
    span.update(out=text, tokens=[outcome.usage.prompt_tokens, outcome.usage.completion_tokens], cost=outcome.cost)
    return parse(text)


def parse(text: str) -> list[str]:
    """The questions in a model's answer: a JSON list anywhere in it (of strings, or of objects with a question), else its
    lines that end as questions do."""
    begin, end = text.find("["), text.rfind("]")
    if 0 <= begin < end:
        try:
            rows = json.loads(text[begin : end + 1])
        except ValueError:
            rows = []
        found = [row.get("question") if isinstance(row, dict) else row for row in rows]
        if any(isinstance(row, str) for row in found):
            return [row for row in found if isinstance(row, str)]
    lines = (_BULLET.sub("", line).strip().strip("\"'“”,") for line in text.splitlines())
    return [line for line in lines if line.endswith(("?", "？", "吗", "呢", "؟"))]


def _from_documents(turn: Turn, reply: Reply, parts: Parts, language: str, span: dict[str, object]) -> list[str]:
    """Questions and headings of what was found and of what stands near it, then the bot's own suggested questions."""
    found = [*turn.passages, *turn.near[:MOST_WEAK]]
    answered = {citation.n for citation in reply.citations} or {1}
    told = {passage.chunk_id for n, passage in enumerate(turn.passages, 1) if n in answered}
    try:
        near = list(parts.nearby(turn)) if found else []
    except ServiceError as error:
        span["error"] = str(error)
        near = []
    documents = {passage.document_id for passage in turn.passages[:1]}
    about = dict.fromkeys(terms(" ".join([turn.question, *(text_of(passage) for passage in found[:2])]), parts.simplify), 1.0)

    def nearness(passage: Passage) -> float:
        """How much of what was talked about its name says; more in the document that answered."""
        name = terms(passage.question or last_heading(passage.heading), parts.simplify)
        shared = sum(term in about for term in name) / len(name) if name else 0.0
        return shared + (0.5 if passage.document_id in documents else 0.0)

    near.sort(key=nearness, reverse=True)
    others = [passage for passage in (*found, *near) if passage.chunk_id not in told]
    return [*_document_questions(others, language), *turn.bot.suggested_questions]


def text_of(passage: Passage) -> str:
    """A passage with its name."""
    return f"{passage.question or last_heading(passage.heading)} {passage.text}"


def _document_questions(passages: Iterable[Passage], language: str) -> list[str]:
    """What the passages answer, questions first: pairs and headings that ask, then other headings put as a question."""
    questions: list[str] = []
    headings: list[str] = []
    for passage in passages:
        name = passage.question or last_heading(passage.heading)
        if passage.question or name.endswith(("?", "？")):
            questions.append(name)
        elif name:
            headings.append(say("followups.about", language, heading=name))
    return questions + headings


def _usable(candidates: Sequence[str], turn: Turn, language: str, parts: Parts) -> list[str]:
    """The candidates that are short, in the language, allowed, and neither asked before nor said twice."""
    before = [turn.question, turn.incoming.text, *(said.text for said in turn.history if said.role == "user")]
    known = [terms(question, parts.simplify) for question in before]
    kept: list[str] = []
    for candidate in candidates:
        question = " ".join(candidate.split())
        about = terms(question, parts.simplify)
        if not question or len(question) > LONGEST_CHARS or detect(_subject(question), language) != language:
            continue
        if about <= known[0] or any(_same(about, other) for other in known) or passed(parts.guard(), question) != question:
            continue
        kept.append(question)
        known.append(about)
    return kept


def _subject(question: str) -> str:
    """What stands in quotation marks, since a frame of ours around a heading says nothing of its language."""
    quoted = re.search(r"“(.+)”", question)
    return quoted[1] if quoted else question


def _same(one: set[str], other: set[str]) -> bool:
    return one == other or (bool(one and other) and len(one & other) / len(one | other) >= SAME)

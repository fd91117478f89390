"""The builtin model: answers in the documents' own sentences, with the numbers of the passages they stand in.

No network and no weights: the passages are found already; what is left is to choose the sentences that say most of what
was asked, measured by character bigrams (Han) and words (others).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bot.language import answer_language, detect
from bot.texts import say
from bot.types import Passage, Turn

ANSWER_CHARS = 360  # about what a reader takes in on a phone without scrolling
MOST_SENTENCES = 4
MOST_PASSAGES = 2
MOST_TOPICS = 4
SAME_LANGUAGE_BONUS = 0.12  # of the passage's score: a reader prefers his own language among equals
FAQ_OVERLAP = 0.34  # a curated answer is given whole where its question covers this much of what was asked

Simplify = Callable[[str], str]  # traditional Chinese folded into simplified

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_RUNS = re.compile(f"[{_HAN}]+|[^\\W_{_HAN}]+")
_SENTENCE = re.compile(r".+?(?:[。！？!?；…]+[”’」』）)]*|\.(?=\s|$)|$)", re.DOTALL)
_RULE = re.compile(r"^\s*\|?[\s:|-]+\|?\s*$")
_MARKUP = re.compile(r"^\s{0,3}(?:#{1,6}\s+|>\s?)")
_ITEM = re.compile(r"^\s*(?:[-*+•·]|\d{1,2}[.)、])\s*")
# Words that ask, and words that every sentence has: they say nothing about the subject.
_EMPTY_HAN = re.compile(
    "请问|請問|什么时候|什麼時候|为什么|為什麼|怎么样|怎麼樣|是不是|有没有|有沒有|能不能|可不可以|可以|如何|怎么|怎麼|怎样|怎樣|什么|什麼|多少|多久|哪些|哪个|哪里|哪裡|几个|幾個|"
    "多长|多長|谁|誰|吗|嗎|呢|吧|啊|呀|了|的|是|我|你|您|们|們|在|要|想|会|會|能|有|和|与|與|就|都|也|还|還|一下|这个|這個|那个|那個|请|請"
)
_EMPTY_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and any are as at be by can could did do does for from get give have has how i if in into is it its me my of on "
        "or our please shall should so some tell than that the their them then there these they this those to us was we were "
        "what when where which who why will with would you your about long much many",
    )
)


@dataclass(frozen=True)
class Found:
    """A sentence that may be said: whose it is, where it stood, and how much of the question it covers (0–1)."""

    passage: int
    place: int
    text: str
    score: float


def answer(turn: Turn, asked: str, simplify: Simplify = str, searched: bool = True) -> str:
    """The answer to turn.question from turn.passages, with [n] behind what comes from passage n where the bot cites.

    asked: the user's own words, which weigh more than what the rewriting added. Without passages it says that nothing
    was found and names the nearest topics (turn.near).
    """
    locale = answer_language(turn.bot.language, asked)
    if not turn.passages:
        return nothing_found(turn, locale, searched)
    wanted = _wanted(turn.question or asked, asked, simplify)
    order = _by_fit(turn.passages, wanted, detect(asked, locale), simplify)
    chosen = order[0]
    if _is_answer(turn.passages[chosen], wanted, simplify):
        return _marked(turn.passages[chosen].text.strip(), chosen, turn)
    sentences = _best_sentences(turn.passages, order, wanted, simplify)
    if not sentences:  # found by meaning alone, such as across languages: its beginning is the best there is
        return _marked(_beginning(turn.passages[chosen].text), chosen, turn)
    parts = []
    for passage in dict.fromkeys(found.passage for found in sentences):
        ours = sorted((found for found in sentences if found.passage == passage), key=lambda found: found.place)
        parts.append(_marked(_joined([found.text for found in ours]), passage, turn))
    return "\n\n".join(parts)


def pieces(text: str) -> Iterator[str]:
    """text as it streams: sentence by sentence."""
    for match in _SENTENCE.finditer(text):
        yield match[0]


def nothing_found(turn: Turn, locale: str, searched: bool = True) -> str:
    """Says plainly that nothing was found, and what there is instead."""
    if not searched:
        return say("builtin.no_knowledge", locale)
    text = say("builtin.nothing", locale)
    topics = topic_names(turn.near, MOST_TOPICS)
    if not topics:
        return text
    space = "" if locale.startswith("zh") else " "
    listed = "\n".join(f"- {topic}" for topic in topics)
    return f"{text}{space}{say('builtin.nearest', locale)}\n\n{listed}"


def topic_names(passages: Sequence[Passage], most: int) -> list[str]:
    """What the passages are about, each once: a pair's question, a heading, else the title."""
    names: dict[str, str] = {}
    for passage in passages:
        name = passage.question or last_heading(passage.heading) or passage.title
        if name.strip():
            names.setdefault(name.strip().casefold(), name.strip())
    return list(names.values())[:most]


def last_heading(heading: str) -> str:
    """The innermost of the headings that a passage stands under."""
    return re.split(r"\s+[›>/]\s+|\n", heading)[-1].strip(" #")


def terms(text: str, simplify: Simplify = str) -> set[str]:
    """What a text is about, for comparing: Han bigrams (a single character where it stands alone), and other words."""
    found: set[str] = set()
    for run in _RUNS.findall(_EMPTY_HAN.sub(" ", simplify(text.casefold()))):
        if "\u3400" <= run[0] <= "\u9fff" or run[0] >= "\uf900":
            found.update([run] if len(run) == 1 else (run[at : at + 2] for at in range(len(run) - 1)))
        elif run not in _EMPTY_WORDS:
            found.add(_stem(run))
    return found


def coverage(wanted: dict[str, float], text: str, simplify: Simplify = str) -> float:
    """How much of what is wanted text has, 0–1. Half of a Han bigram counts a quarter."""
    total = sum(wanted.values())
    if not total:
        return 0.0
    has = terms(text, simplify)
    characters = {char for term in has if ord(term[0]) >= 0x3400 for char in term}
    score = 0.0
    for term, weight in wanted.items():
        if term in has:
            score += weight
        elif ord(term[0]) >= 0x3400:
            score += weight * 0.25 * sum(char in characters for char in term) / len(term)
    return score / total


def _wanted(question: str, asked: str, simplify: Simplify) -> dict[str, float]:
    """The question's terms and their weights."""
    own = terms(asked, simplify)
    return {**dict.fromkeys(terms(question, simplify), 0.4 if own else 1.0), **dict.fromkeys(own, 1.0)}


def _stem(word: str) -> str:
    """An English word without the endings that a question and its answer differ by."""
    for ending in ("ing", "ies", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + ("y" if ending == "ies" else "")
            break
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def _by_fit(passages: Sequence[Passage], wanted: dict[str, float], language: str, simplify: Simplify) -> list[int]:
    """The passages' places, best first: by score, the words they share with the question, and the reader's language."""

    def fit(place: int) -> float:
        passage = passages[place]
        words = coverage(wanted, f"{passage.question or ''} {passage.heading} {passage.text}", simplify)
        own = detect(passage.question or passage.text, language) == language
        return passage.score + 0.2 * words + (SAME_LANGUAGE_BONUS if own else 0.0)

    return sorted(range(len(passages)), key=fit, reverse=True)


def _is_answer(passage: Passage, wanted: dict[str, float], simplify: Simplify) -> bool:
    """Whether a curated pair answers as a whole: its question is what was asked, or its answer is short anyway."""
    if passage.question is None:
        return False
    return len(passage.text) <= ANSWER_CHARS or coverage(wanted, passage.question, simplify) >= FAQ_OVERLAP


def _best_sentences(
    passages: Sequence[Passage], order: Sequence[int], wanted: dict[str, float], simplify: Simplify
) -> list[Found]:
    """The sentences to say, best first, within ANSWER_CHARS; empty where none shares a word with the question."""
    candidates: list[Found] = []
    for rank, place in enumerate(order[: MOST_PASSAGES + 1]):
        heading = coverage(wanted, f"{passages[place].heading} {passages[place].title}", simplify)
        for at, text in enumerate(sentences_of(passages[place].text)):
            own = coverage(wanted, text, simplify)
            if own or (heading and rank == 0):
                candidates.append(Found(place, at, text, own + 0.3 * heading - 0.08 * rank))
    candidates.sort(key=lambda found: -found.score)
    if not candidates:
        return []
    best = candidates[0].score
    chosen: list[Found] = []
    room = ANSWER_CHARS
    for found in candidates:
        enough = len(chosen) >= MOST_SENTENCES or (chosen and len(found.text) > room)
        if enough or found.score < best * 0.55 or (found.passage != candidates[0].passage and found.score < best * 0.8):
            continue
        if any(found.text == other.text for other in chosen):
            continue
        chosen.append(found)
        room -= len(found.text)
    return chosen


def sentences_of(text: str) -> list[str]:
    """The sentences, list items and table rows of a passage; a row says the names of its columns."""
    found: list[str] = []
    header: list[str] | None = None
    lead = ""
    for raw in text.splitlines():
        line = _MARKUP.sub("", raw).strip()
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if header is None:
                header = cells
            elif not _RULE.match(line):
                found.append(_row(header, cells))
            continue
        header = None
        if not line:
            continue
        if _ITEM.match(line):
            found.append(f"{lead}\n- {_ITEM.sub('', line)}" if lead else f"- {_ITEM.sub('', line)}")
            lead = ""
            continue
        lead = line if line.endswith((":", "：")) else ""  # said with the first item of the list that it opens
        if not lead:
            found += [match[0].strip() for match in _SENTENCE.finditer(line) if match[0].strip()]
    return found + ([lead] if lead else [])


def _row(header: Sequence[str], cells: Sequence[str]) -> str:
    colon, comma = ("：", "，") if detect("".join(header), "en") == "zh" else (": ", ", ")
    named = [f"{name}{colon}{cell}" if name else cell for name, cell in zip(header, cells, strict=False) if cell]
    return "- " + comma.join(named)


def _joined(sentences: Sequence[str]) -> str:
    """Sentences in a row; list items and rows on their own lines."""
    text = ""
    for sentence in sentences:
        if not text:
            text = sentence
        elif sentence.startswith("- ") or "\n- " in sentence or text.rsplit("\n", 1)[-1].startswith("- "):
            text += "\n" + sentence
        else:
            text += ("" if text[-1] in "。！？；…”」』）" else " ") + sentence
    return text


def _beginning(text: str) -> str:
    sentences = sentences_of(text)
    kept: list[str] = []
    for sentence in sentences[:MOST_SENTENCES]:
        if kept and sum(map(len, kept)) + len(sentence) > ANSWER_CHARS:
            break
        kept.append(sentence)
    return _joined(kept) or text.strip()


def _marked(text: str, passage: int, turn: Turn) -> str:
    return f"{text} [{passage + 1}]" if turn.bot.knowledge.cite else text

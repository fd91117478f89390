"""The builtin model: answers in the documents' own sentences, with the numbers of the passages they stand in.

No network and no weights: the passages are found already; what is left is to choose the sentences that say most of what
was asked, measured by character bigrams (Han) and words (others).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bot.language import answer_language, detect
from bot.texts import say
from bot.types import Passage, Turn

ANSWER_CHARS = 360  # about what a reader takes in on a phone without scrolling
MOST_SENTENCES = 4
MOST_ITEMS = 8  # of a list or a table
MOST_PASSAGES = 2
MOST_TOPICS = 4
SAME_LANGUAGE_BONUS = 0.12  # of the passage's score: a reader prefers his own language among equals
STRONG = 0.55  # a score that needs no common word
NEARLY = 0.85  # of the best passage's score
CLEARLY = 0.15  # more of the question's words
FAQ_OVERLAP = 0.34  # a curated answer is given whole where its question covers this much of what was asked

Simplify = Callable[[str], str]  # traditional Chinese folded into simplified

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_RUNS = re.compile(f"[{_HAN}]+|[^\\W_{_HAN}]+")
_SENTENCE = re.compile(r".+?(?:[。！？!?；…]+[”’」』）)]*|\.(?=\s|$)|$)", re.DOTALL)
_RULE = re.compile(r"^\s*\|?[\s:|-]+\|?\s*$")
_ROW = re.compile(r"^\|.*\||^[^|]+( \| [^|]*)+$")
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
class Sentence:
    """A sentence, list item or table row of a passage; lead: the line that opens the list."""

    text: str
    lead: str = ""

    @property
    def is_item(self) -> bool:
        return self.text.startswith("- ")


@dataclass(frozen=True)
class Found:
    """A sentence that may be said: whose it is, where it stood, and how much of the question it covers (0–1)."""

    passage: int
    place: int
    sentence: Sentence
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
    language = detect(asked, locale)
    order = _by_fit(turn.passages, wanted, language, simplify)
    chosen = order[0]
    if _is_stray(turn.passages[chosen], wanted, language, simplify):
        return nothing_found(replace(turn, near=(*turn.passages, *turn.near)), locale)
    if _is_answer(turn.passages[chosen], wanted, simplify):
        return _marked(turn.passages[chosen].text.strip(), chosen, turn)
    sentences = _best_sentences(turn.passages, order, wanted, simplify)
    if not sentences:  # found by meaning alone, such as across languages: its beginning is the best there is
        return _marked(_beginning(turn.passages[chosen].text), chosen, turn)
    parts = []
    for passage in dict.fromkeys(found.passage for found in sentences):
        ours = sorted((found for found in sentences if found.passage == passage), key=lambda found: found.place)
        parts.append(_marked(_joined([found.sentence for found in ours]), passage, turn))
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
    weights = {term: 0.4 if own else 1.0 for term in terms(question, simplify)} | dict.fromkeys(own, 1.0)
    # A single character, such as 钱, says less than a word.
    return {term: weight * (0.5 if len(term) == 1 else 1.0) for term, weight in weights.items()}


def _stem(word: str) -> str:
    """An English word without the endings that a question and its answer differ by."""
    for ending in ("ies", "es", "s", "ing", "ment", "ed"):  # payments: first the plural
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + ("y" if ending == "ies" else "")
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        return word[:-1]  # shipp-ing
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _by_fit(passages: Sequence[Passage], wanted: dict[str, float], language: str, simplify: Simplify) -> list[int]:
    """The passages' places, best first: by score and the reader's language; one that nearly scores as high but shares
    clearly more words with the question goes first."""

    def fit(place: int) -> float:
        own = detect(passages[place].question or passages[place].text, language) == language
        return passages[place].score + (SAME_LANGUAGE_BONUS if own else 0.0)

    def words(place: int) -> float:
        passage = passages[place]
        name = f"{passage.title} {passage.question or last_heading(passage.heading)}"
        return (coverage(wanted, name, simplify) + coverage(wanted, f"{name} {passage.text}", simplify)) / 2

    order = sorted(range(len(passages)), key=fit, reverse=True)
    rivals = [place for place in order if fit(place) >= NEARLY * fit(order[0])]
    best = max(rivals, key=words)
    if words(best) >= words(order[0]) + CLEARLY:
        order.remove(best)
        order.insert(0, best)
    return order


def _is_stray(passage: Passage, wanted: dict[str, float], language: str, simplify: Simplify) -> bool:
    """Whether a passage in the question's language shares no word with it, nor is so near in meaning that it need not."""
    if passage.score >= STRONG or detect(passage.question or passage.text, language) != language:
        return False
    words = f"{passage.title} {passage.heading} {passage.question or ''} {passage.text}"
    return bool(wanted) and coverage(wanted, words, simplify) == 0


def _is_answer(passage: Passage, wanted: dict[str, float], simplify: Simplify) -> bool:
    """Whether a passage answers as a whole: a curated pair whose question is what was asked, or whose answer is short.

    A short section below a heading that asks is such a pair too.
    """
    short = len(passage.text) <= ANSWER_CHARS
    if passage.question is None:
        return short and _asks(last_heading(passage.heading)) and not any(map(_ROW.match, passage.text.splitlines()))
    return short or coverage(wanted, passage.question, simplify) >= FAQ_OVERLAP


def _asks(heading: str) -> bool:
    return heading.endswith(("?", "？"))


def _best_sentences(
    passages: Sequence[Passage], order: Sequence[int], wanted: dict[str, float], simplify: Simplify
) -> list[Found]:
    """The sentences to say, best first, within ANSWER_CHARS; empty where none shares a word with the question."""
    candidates: list[Found] = []
    for rank, place in enumerate(order[: MOST_PASSAGES + 1]):
        heading = coverage(wanted, f"{passages[place].heading} {passages[place].title}", simplify)
        for at, sentence in enumerate(sentences_of(passages[place].text)):
            own = coverage(wanted, f"{sentence.lead} {sentence.text}", simplify)
            if own or (heading and rank == 0):
                candidates.append(Found(place, at, sentence, own + 0.3 * heading - 0.08 * rank))
    candidates.sort(key=lambda found: -found.score)
    if not candidates:
        return []
    first = candidates[0]
    chosen: list[Found] = []
    room = ANSWER_CHARS
    for found in candidates:
        kin = sum(other.sentence.is_item == found.sentence.is_item for other in chosen)
        length = len(found.sentence.text)
        if kin >= (MOST_ITEMS if found.sentence.is_item else MOST_SENTENCES) or (chosen and length > room):
            continue
        if found.score < first.score * (0.55 if found.passage == first.passage else 0.8):
            continue
        if all(found.sentence.text != other.sentence.text for other in chosen):
            chosen.append(found)
            room -= length
    return chosen


def sentences_of(text: str) -> list[Sentence]:
    """The sentences, list items and table rows of a passage; a row says the names of its columns."""
    found: list[Sentence] = []
    header: list[str] | None = None
    lead = ""
    for raw in text.splitlines():
        line = _MARKUP.sub("", raw).strip()
        if _ROW.match(line):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if header is None:
                header = cells
            elif not _RULE.match(line):
                found.append(Sentence(_row(header, cells)))
            continue
        header = None
        if not line:
            continue
        if _ITEM.match(line):
            found.append(Sentence(f"- {_ITEM.sub('', line)}", lead))
            continue
        if lead and not any(sentence.lead == lead for sentence in found):
            found.append(Sentence(lead))
        lead = line if line.endswith((":", "：")) else ""  # said with the items of the list that it opens
        if not lead:
            found += [Sentence(match[0].strip()) for match in _SENTENCE.finditer(line) if match[0].strip()]
    if lead and not any(sentence.lead == lead for sentence in found):
        found.append(Sentence(lead))
    return found


def _row(header: Sequence[str], cells: Sequence[str]) -> str:
    colon, comma = ("：", "，") if detect("".join(header), "en") == "zh" else (": ", ", ")
    named = [f"{name}{colon}{cell}" if name else cell for name, cell in zip(header, cells, strict=False) if cell]
    return "- " + comma.join(named)


def _joined(sentences: Sequence[Sentence]) -> str:
    """Sentences in a row; list items and rows on their own lines, below what opens their list."""
    text = ""
    before = Sentence("")
    for sentence in sentences:
        if sentence.lead and sentence.lead != before.lead:
            text += ("\n\n" if text else "") + sentence.lead
        on_its_own = sentence.is_item or before.is_item
        space = "\n" if on_its_own else "" if not text or text[-1] in "。！？；…”」』）" else " "
        text += (space if text else "") + sentence.text
        before = sentence
    return text


def _beginning(text: str) -> str:
    kept: list[Sentence] = []
    room = ANSWER_CHARS
    for sentence in sentences_of(text)[:MOST_SENTENCES]:
        if kept and len(sentence.text) > room:
            break
        kept.append(sentence)
        room -= len(sentence.text)
    return _joined(kept) or text.strip()


def _marked(text: str, passage: int, turn: Turn) -> str:
    return f"{text} [{passage + 1}]" if turn.bot.knowledge.cite else text

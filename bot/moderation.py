"""Forbidden words: found in a whole text, and in a text that is still being written.

Words are matched wherever they stand, case and width folded (NFKC, casefold), across invisible characters and runs of
white space, and whether an accent is part of its letter or follows it. The search is an Aho-Corasick automaton of our own,
since a stream needs the depth of its state: the characters that may still become a forbidden word are exactly those that
led there and a letter whose accent may follow, and only they are held back.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal

from bot.types import Match, Verdict

Action = Literal["block", "mask", "review"]
_MOST_MARKS = 10  # that are composed with a letter; a longer run takes quadratic time
_STRENGTH = {"pass": 0, "review": 1, "mask": 2, "block": 3}


@dataclass(frozen=True)
class WordList:
    """A list of forbidden words and what to do about them."""

    name: str
    words: tuple[str, ...]
    action: Action = "block"


class Automaton:
    """Words as a trie with fail links. Source: Aho and Corasick, "Efficient string matching", CACM 18 (1975)."""

    def __init__(self, lists: Sequence[WordList]) -> None:
        self.entries: list[tuple[str, Action, int]] = []  # word, what to do, its folded length
        self.goto: list[dict[str, int]] = [{}]
        self.fail: list[int] = [0]
        self.depth: list[int] = [0]
        self.found: list[tuple[int, ...]] = [()]  # the entries that end at each state
        self.bases: set[str] = set()  # letters that marks after them may make a letter of a word
        for word_list in lists:
            for word in word_list.words:
                self._add(word, word_list.action)
        self._link()

    def _add(self, word: str, action: Action) -> None:
        units = _fold(word)
        if not units:
            return
        state = 0
        for unit in units:
            following = self.goto[state].get(unit)
            if following is None:
                following = len(self.goto)
                self.goto[state][unit] = following
                self.goto.append({})
                self.fail.append(0)
                self.depth.append(self.depth[state] + 1)
                self.found.append(())
            state = following
            self.bases |= _bases(unit)
        self.found[state] += (len(self.entries),)
        self.entries.append((word, action, len(units)))

    def _link(self) -> None:
        waiting = deque(self.goto[0].values())
        while waiting:
            state = waiting.popleft()
            for unit, following in self.goto[state].items():
                waiting.append(following)
                self.fail[following] = self.next(self.fail[state], unit)
                self.found[following] += self.found[self.fail[following]]

    def next(self, state: int, unit: str) -> int:
        """The state after one more folded character."""
        while True:
            following = self.goto[state].get(unit)
            if following is not None:
                return following
            if state == 0:
                return 0
            state = self.fail[state]


class Scanner:
    """Walks the automaton over a text, character by character; positions are of the original text."""

    def __init__(self, automaton: Automaton) -> None:
        self._automaton = automaton
        self._state = 0
        self._starts: list[int] = []  # where each folded character that led to the state came from
        self._in_space = False
        self._letter = ""  # folded, with the marks after it so far; it waits for more of them
        self._letter_start = self._letter_end = 0
        self.position = 0

    @property
    def held_from(self) -> int:
        """Everything before this position can no longer become part of a word that is not found yet."""
        if self._starts:
            return self._starts[0]
        return self._letter_start if self._letter else self.position

    def feed(self, char: str) -> list[tuple[int, int, int]]:
        """The words that are found with this character, as (entry, start, end)."""
        units, at = fold_char(char), self.position
        self.position += 1
        if self._letter:
            if not units:
                return []
            if _joins(self._letter, units):
                self._letter, self._letter_end = self._letter + units, at + 1
                return []
        ends = self.close()
        if units in self._automaton.bases:
            self._letter, self._letter_start, self._letter_end = units, at, at + 1
            return ends
        return ends + self._walk(units, at, at + 1)

    def close(self) -> list[tuple[int, int, int]]:
        """The words that are found now that no mark follows the last letter."""
        if not self._letter:
            return []
        units, self._letter = unicodedata.normalize("NFC", self._letter), ""
        return self._walk(units, self._letter_start, self._letter_end)

    def _walk(self, units: str, start: int, end: int) -> list[tuple[int, int, int]]:
        automaton, ends = self._automaton, []
        if units == " ":
            if self._in_space:
                return []  # a run of white space is one space
            self._in_space = True
        elif units:
            self._in_space = False
        for unit in units:
            self._state = automaton.next(self._state, unit)
            self._starts.append(start)
            del self._starts[: len(self._starts) - automaton.depth[self._state]]
            for entry in automaton.found[self._state]:
                ends.append((entry, self._starts[-automaton.entries[entry][2]], end))
        return ends


# Source: Unicode, DerivedCoreProperties: Default_Ignorable_Code_Point, beyond the categories Cf and Cc.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)


@lru_cache(maxsize=1 << 16)
def fold_char(char: str) -> str:
    """A character as it is compared: compatibility forms, case and width folded; nothing for an invisible one."""
    if char.isspace():
        return " "
    if unicodedata.category(char) in ("Cf", "Cc") or _IGNORABLE.match(char):
        return ""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", char).casefold())
    return folded.replace(" ", "")  # ´ and its kin decompose to a space and a mark


def _fold(word: str) -> str:
    units: list[str] = []
    for char in unicodedata.normalize("NFC", word).strip():
        folded = fold_char(char)
        if folded != " " or (units and units[-1] != " "):
            units.append(folded)
    return unicodedata.normalize("NFC", "".join(units)).rstrip(" ")


def _bases(unit: str) -> set[str]:
    """The letters that become unit with marks after them: e, ê and ẹ for ệ."""
    apart = unicodedata.normalize("NFD", unit)
    letter, marks = apart[0], apart[1:]
    some = (unicodedata.normalize("NFC", letter + "".join(few)) for n in range(len(marks)) for few in combinations(marks, n))
    return {base for base in some if len(base) == 1}


def _joins(letter: str, units: str) -> bool:
    """Whether units, which follow letter, are marks upon it or melt into it."""
    if len(letter) > _MOST_MARKS:
        return False
    if unicodedata.combining(units[0]):
        return True
    apart = len(unicodedata.normalize("NFC", letter)) + len(units)
    return len(unicodedata.normalize("NFC", letter + units)) < apart


@lru_cache(maxsize=64)
def compiled(lists: tuple[WordList, ...]) -> Automaton | None:
    """The automaton of these lists, kept; None when they hold no word."""
    automaton = Automaton(lists)
    return automaton if automaton.entries else None


def check(text: str, lists: Sequence[WordList]) -> Verdict:
    """What the lists say of text: the strongest action of what was found, and every match by its place in text.

    With `mask` the verdict's text has `*` for each character of a masked word; matches come in order of their start.
    """
    automaton = compiled(tuple(lists))
    if automaton is None:
        return Verdict("pass", text)
    scanner = Scanner(automaton)
    action = "pass"
    matches: set[tuple[int, int, str]] = set()
    masked = list(text)
    for entry, start, end in [end for char in text for end in scanner.feed(char)] + scanner.close():
        word, what, _ = automaton.entries[entry]
        matches.add((start, end, word))
        action = max(action, what, key=lambda name: _STRENGTH[name])
        if what == "mask":
            masked[start:end] = "*" * (end - start)
    found = tuple(Match(word, start, end) for start, end, word in sorted(matches))
    return Verdict(action, "".join(masked) if action == "mask" else text, found)  # type: ignore[arg-type]


class StreamGuard:
    """Watches an answer that is being written.

    feed(text) returns what may leave now, close() the rest. Once `blocked`, nothing leaves any more. The text that left is
    the same however it was cut into pieces. `matches` holds what was found, by its place in the whole text.
    """

    def __init__(self, automaton: Automaton | None = None) -> None:
        self._automaton = automaton
        self._scanner = Scanner(automaton) if automaton else None
        self._held: list[str] = []
        self._left = 0  # how many characters have left
        self.blocked = False
        self.matches: list[Match] = []

    def feed(self, text: str) -> str:
        """What may leave now that text was said too."""
        if self._scanner is None or self._automaton is None:
            return text
        leaving: list[str] = []
        for char in text:
            if self.blocked:
                break
            self._held.append(char)
            for entry, start, end in self._scanner.feed(char):
                self._note(self._automaton.entries[entry], start, end)
            if not self.blocked:
                free = self._scanner.held_from - self._left
                if free:
                    leaving += self._held[:free]
                    del self._held[:free]
                    self._left += free
        return "".join(leaving)

    def close(self) -> str:
        """What was held back, now that nothing follows; nothing when blocked."""
        if self._scanner and self._automaton and not self.blocked:
            for entry, start, end in self._scanner.close():
                self._note(self._automaton.entries[entry], start, end)
        rest = "" if self.blocked else "".join(self._held)
        self._left += len(rest)
        self._held = []
        return rest

    def _note(self, entry: tuple[str, Action, int], start: int, end: int) -> None:
        word, action, _ = entry
        self.matches.append(Match(word, start, end))
        if action == "block":
            self.blocked = True
        elif action == "mask":
            self._held[start - self._left : end - self._left] = "*" * (end - start)


def guard_for(lists: Sequence[WordList]) -> StreamGuard:
    """A fresh guard for one answer."""
    return StreamGuard(compiled(tuple(lists)))


def passed(guard: StreamGuard, text: str) -> str | None:
    """text as it may leave when it is said whole, through a fresh guard; None when it is blocked."""
    visible = guard.feed(text) + guard.close()
    return None if guard.blocked else visible

"""Which language a text is in, told by its script."""

from __future__ import annotations

import re

_SCRIPTS = (
    # (language, characters, how much a character weighs: a Han character says about as much as four letters)
    ("ja", re.compile("[\u3041-\u30ff\u31f0-\u31ff]"), 4),
    ("ko", re.compile("[\uac00-\ud7a3\u1100-\u11ff]"), 4),
    ("zh", re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]"), 4),
    ("ru", re.compile("[\u0400-\u052f]"), 1),
    ("ar", re.compile("[\u0600-\u06ff\u0750-\u077f]"), 1),
    ("he", re.compile("[\u0590-\u05ff]"), 1),
    ("th", re.compile("[\u0e00-\u0e7f]"), 1),
    ("hi", re.compile("[\u0900-\u097f]"), 1),
    ("el", re.compile("[\u0370-\u03ff]"), 1),
    ("en", re.compile("[A-Za-z\u00c0-\u024f]"), 1),
)
_NAMES = {
    "zh": "Chinese", "en": "English", "ja": "Japanese", "ko": "Korean", "ru": "Russian", "ar": "Arabic",
    "he": "Hebrew", "th": "Thai", "hi": "Hindi", "el": "Greek", "fr": "French", "de": "German", "es": "Spanish",
}  # fmt: skip
_MOST_READ = 2000  # characters; the beginning tells enough


def detect(text: str, default: str = "en") -> str:
    """The language of text by its script: zh, ja, ko, ru, ar, he, th, hi, el, or en for Latin letters; default for none.

    Mixed text goes to the script that says more: "退款 policy 是什么" is zh, "What does 退款 mean here?" is en.
    """
    text = text[:_MOST_READ]
    counts = {language: len(pattern.findall(text)) * weight for language, pattern, weight in _SCRIPTS}
    if counts["ja"] and counts["ja"] * 5 >= counts["zh"]:  # Japanese mixes Han with kana
        counts["ja"] += counts.pop("zh")
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] else default


def answer_language(configured: str, question: str) -> str:
    """The language to answer in: the bot's own, or with `auto` the question's."""
    return detect(question, default="zh") if configured in ("", "auto") else configured


def language_name(code: str) -> str:
    """The language's name in English, for a model's instructions; the code itself where it is not known."""
    return _NAMES.get(code.split("-", 1)[0].lower(), code)

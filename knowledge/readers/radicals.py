"""Some fonts of PDF files say radicals (U+2E80 to U+2FD5) where the page shows ordinary characters: these put it right."""

from __future__ import annotations

import unicodedata

# The characters for U+2E80 to U+2EF3 in order, a space where there is none. NFKC knows only the other block, U+2F00 to
# U+2FD5. Source: Unicode Character Database, EquivalentUnifiedIdeograph.txt, version 14.
_SUPPLEMENT = (
    " 厂乛乚乙亻冂𠘨刀刂卜㔾小小兀尣尢𡯂巳幺彑彐忄心扌攵 旡日月歺母民氵氺灬爫爫丬牛犭王𤴔目示礻𥫗糹纟罓罒㓁冗𦉫羊𦍌𦍋耂"
    "肀聿肉𦥑艹艹艹虎衤覀西见角𧢲讠贝𧾷车辶辶辶邑钅長镸长门𨸏阝雨青韦页风飞食𩙿飠饣𩠐马骨鬼鱼鸟卤麦黄黾斉齐歯齿竜龙龜亀龟"
)
_ORDINARY = {0x2E80 + place: char for place, char in enumerate(_SUPPLEMENT) if char != " "}
_ORDINARY |= {point: unicodedata.normalize("NFKC", chr(point)) for point in range(0x2F00, 0x2FD6)}


def repair_radicals(text: str) -> str:
    """The text with radicals replaced by the characters that look the same."""
    return text.translate(_ORDINARY)

"""Logging: text for people, or one JSON object a line. Ids, never what was said, never secrets."""

from __future__ import annotations

import json
import logging
import sys

from bot.settings import Settings

CHATTY = ("rq.worker", "rq.job", "rq.cron", "httpx2", "httpcore2", "openai", "gunicorn.error", "alembic", "pymilvus", "faiss")


class JsonLine(logging.Formatter):
    """One JSON object a line: time, level, logger, message and, where there is one, the exception."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(settings: Settings) -> None:
    """Send all loggers to stderr, as LOG_LEVEL and LOG_FORMAT say. Called again, it replaces what it did before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name("qingniao")
    if settings.log_format == "json":
        handler.setFormatter(JsonLine())
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.get_name() == "qingniao"]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))

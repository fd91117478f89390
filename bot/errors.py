"""The errors of this project.

BotError
├── ConfigError          at start or in `flask apply`; names the key and the line, and what to do
├── BadRequest           the sender's fault, never retried
│   ├── BadSignature     403; logged without the body
│   └── Unreadable       acknowledged and ignored by a callback; 400 on our own APIs
└── ServiceError(service, permanent, retry_after_s=None)
    └── ModelError · DeliveryError · SearchError · StoreError
"""

from __future__ import annotations


class BotError(Exception):
    """Anything that this project raises on purpose. `str()` is a sentence for the operator."""


class ConfigError(BotError):
    """A setting or a configuration file is wrong. The message names the key (and line) and says what to do."""


class BadRequest(BotError):
    """The sender's fault; never retried. `code` is stable, for programs; `status` is the HTTP status."""

    status = 400

    def __init__(self, code: str, message: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s
        if status is not None:
            self.status = status


class BadSignature(BadRequest):
    """A signature or token does not fit: 403. Logged without the body."""

    status = 403


class Unreadable(BadRequest):
    """The body cannot be read: 400 on our own APIs; a platform's callback is acknowledged and ignored."""


class ServiceError(BotError):
    """A service that we call failed. `permanent` answers "try again?"; `retry_after_s` says when, if it told us."""

    def __init__(self, service: str, message: str, permanent: bool, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.service = service
        self.permanent = permanent
        self.retry_after_s = retry_after_s


class ModelError(ServiceError):
    """A model's endpoint failed. `code` is one of: timeout, unreachable, refused, rate_limited, broken_stream, unusable.

    `said` is what the model had said before it broke, possibly empty. `status` is the HTTP status, where there was one.
    """

    def __init__(
        self,
        service: str,
        message: str,
        permanent: bool,
        retry_after_s: float | None = None,
        code: str = "unusable",
        said: str = "",
        status: int | None = None,
    ) -> None:
        super().__init__(service, message, permanent, retry_after_s)
        self.code = code
        self.said = said
        self.status = status


class DeliveryError(ServiceError):
    """A platform did not take an answer."""


class SearchError(ServiceError):
    """The vector index or the embedding model did not answer."""


class StoreError(ServiceError):
    """The database or Redis did not answer."""

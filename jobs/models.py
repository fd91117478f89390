"""Which endpoints a bot's models are, from the providers' rows."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from bot.config import BUILTIN as BUILTIN_NAME
from bot.errors import ModelError
from bot.llm import BUILTIN, Endpoint, Llm
from bot.secrets import decrypt
from bot.tables import Model, Provider
from jobs.services import Services


def endpoint(provider: Provider, model: Model, secret_key: str) -> Endpoint:
    """The endpoint of a model's row. Raises ConfigError when SECRET_KEY is not the one its key was stored under."""
    return Endpoint(
        provider=provider.name,
        base_url=provider.base_url,
        api_key=decrypt(provider.api_key, secret_key) if provider.api_key else "",
        model=model.name,
        context=model.context,
        price_in=model.price_in,
        price_out=model.price_out,
        weight=provider.weight,
    )


def groups(session: Session, names: Sequence[str], secret_key: str) -> list[list[Endpoint]]:
    """For each `provider/model` (or `builtin`) the endpoints that serve it: every provider that offers a model of that name.

    The named provider is first in its group. A name that nothing offers gives no group.
    """
    found = []
    for name in names:
        if name == BUILTIN_NAME:
            found.append([BUILTIN])
            continue
        provider_name, _, model_name = name.partition("/")
        rows = session.exec(
            select(Provider, Model)
            .join(Model, col(Model.provider_id) == col(Provider.id))
            .where(Model.name == model_name, Model.kind == "chat")
            .order_by(col(Provider.id))
        ).all()
        if any(provider.name == provider_name for provider, _ in rows):
            rows = sorted(rows, key=lambda row: row[0].name != provider_name)
            found.append([endpoint(provider, model, secret_key) for provider, model in rows])
    return found


def embedding_texts(services: Services, llm: Llm, name: str, texts: Sequence[str]) -> list[list[float]]:
    """Vectors of texts by the embedding model `provider/model`. Raises ModelError when there is no such model."""
    provider_name, _, model_name = name.partition("/")
    with services.db.read() as session:
        row = session.exec(
            select(Provider, Model)
            .join(Model, col(Model.provider_id) == col(Provider.id))
            .where(Provider.name == provider_name, Model.name == model_name, Model.kind == "embedding")
        ).first()
    if row is None:
        raise ModelError(name, f"There is no embedding model {name}. Add it under Models.", permanent=True)
    return llm.embed(endpoint(*row, services.settings.secret_key), texts)

"""The configuration that YAML and the console write and everything else reads: pydantic models, one per YAML section.

Names, defaults and limits follow the configuration file's documentation; unknown keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Sentence = Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True)]
SuggestedQuestion = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]

BUILTIN = "builtin"


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Section):
    """One model of a provider. context in tokens; prices per million tokens; dim is an embedding's length."""

    name: str = Field(min_length=1, max_length=200)
    kind: Literal["chat", "embedding", "rerank"] = "chat"
    context: int = Field(default=32000, ge=512)
    price_in: float = Field(default=0.0, ge=0)
    price_out: float = Field(default=0.0, ge=0)
    dim: int | None = Field(default=None, ge=1)


class ProviderConfig(Section):
    """An OpenAI-compatible endpoint. api_key: env:NAME, file:PATH or the secret itself."""

    name: Name
    base_url: str = Field(pattern=r"^https?://", max_length=500)
    api_key: str | None = None
    weight: int = Field(default=1, ge=0, le=1000)
    models: tuple[ModelConfig, ...] = ()


class DocumentConfig(Section):
    path: str | None = None
    url: str | None = None


class FaqConfig(Section):
    question: str = Field(min_length=1, max_length=1000)
    answer: str = Field(min_length=1, max_length=20000)


class KnowledgeConfig(Section):
    name: Name
    embedding: str = BUILTIN
    documents: tuple[DocumentConfig, ...] = ()
    faqs: tuple[FaqConfig, ...] = ()


class ModerationConfig(Section):
    name: Name
    keywords: tuple[str, ...] = ()
    keywords_file: str | None = None
    action: Literal["block", "mask", "review"] = "block"


class Followups(Section):
    enabled: bool = True
    count: int = Field(default=3, ge=0, le=5)


class Memory(Section):
    recent_turns: int = Field(default=10, ge=0, le=100)
    summary: bool = True
    facts: bool = True


class Knowledge(Section):
    bases: tuple[Name, ...] = ()
    top_k: int = Field(default=5, ge=1, le=50)
    min_score: float = Field(default=0.35, ge=0, le=1)
    cite: bool = True
    when_empty: Literal["answer", "refuse", "handoff"] = "answer"


class Moderation(Section):
    lists: tuple[Name, ...] = ()
    check: Literal["both", "input", "output", "none"] = "both"
    on_block: Sentence = ""  # empty: the catalogue's sentence, in the user's language
    provider: str | None = None


class Handoff(Section):
    enabled: bool = False
    keywords: tuple[str, ...] = ("人工",)
    message: Sentence = ""


class BotConfig(Section):
    """Everything that makes a bot; one published version of it is what a turn names."""

    name: Name
    title: str = Field(default="", max_length=100)
    avatar: str | None = Field(default=None, max_length=500)
    language: str = "auto"
    model: str = BUILTIN  # provider/model, or builtin
    fallback_models: tuple[str, ...] = ()
    temperature: float = Field(default=0.3, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    prompt: str = Field(default="", max_length=50000)
    opening: Sentence = ""
    suggested_questions: tuple[SuggestedQuestion, ...] = Field(default=(), max_length=3)
    followups: Followups = Followups()
    memory: Memory = Memory()
    knowledge: Knowledge = Knowledge()
    moderation: Moderation = Moderation()
    handoff: Handoff = Handoff()
    image_hosts: tuple[str, ...] = ()  # hosts whose images a model's answer may show


class ChannelConfig(Section):
    """A channel; keys beyond these belong to its kind and are checked by the kind's own `Config`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Name
    kind: str
    bot: Name
    enabled: bool = True
    quiet_s: float = Field(default=0.0, ge=0, le=30)  # messages within this time of each other are one turn

    def settings(self) -> dict[str, Any]:
        """The kind's own keys."""
        return dict(self.model_extra or {})


class Configuration(Section):
    """A whole configuration file."""

    version: Literal[1] = 1
    providers: tuple[ProviderConfig, ...] = ()
    knowledge: tuple[KnowledgeConfig, ...] = ()
    moderation: tuple[ModerationConfig, ...] = ()
    bots: tuple[BotConfig, ...] = ()
    channels: tuple[ChannelConfig, ...] = ()

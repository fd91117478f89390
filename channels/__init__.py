"""Channels: platform to our values and back, nothing else. One module per kind."""

from __future__ import annotations

from types import ModuleType

from channels import web

# Each has `Config` (the kind's own keys in YAML) and `SECRET_KEYS` (those of them that are never shown or exported).
KINDS: dict[str, ModuleType] = {"web": web}

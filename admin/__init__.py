"""The console and the command line."""

from __future__ import annotations

from admin import (
    bots,
    channels,
    console_settings,
    conversations,
    debug,
    knowledge_base,
    models,
    moderation,
    overview,
    sign_in,
)
from admin.page import Page

# In the order of the navigation; the first four stand in the bar at the foot of a phone.
PAGES: tuple[Page, ...] = (
    overview.bp,
    bots.bp,
    knowledge_base.bp,
    conversations.bp,
    models.bp,
    channels.bp,
    moderation.bp,
    console_settings.bp,
    debug.bp,
    sign_in.bp,
)

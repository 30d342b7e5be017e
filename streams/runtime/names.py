"""The names under which a task is known to the broker: consumer group, changelog topic, transactional ids."""

from __future__ import annotations

from streams.settings import Settings


def group_id(settings: Settings, task: str) -> str:
    """The consumer group of ``task``: ``<topic_prefix><app_id>-<task>``."""
    return f"{settings.topic_prefix}{settings.app_id}-{task}"


def changelog_topic(settings: Settings, task: str) -> str:
    """The compacted topic that holds the state of ``task``: ``<topic_prefix><app_id>-<task>-changelog``."""
    return f"{group_id(settings, task)}-changelog"


def transactional_id(settings: Settings, task: str, partition: int) -> str:
    """The id that makes one worker at a time the owner of a partition: ``<topic_prefix><app_id>-<task>-<partition>``."""
    return f"{group_id(settings, task)}-{partition}"

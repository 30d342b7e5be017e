"""The contracts as documents: JSON Schema 2020-12 for each message, and one AsyncAPI 3 document for all topics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from schemas.base import SCHEMA_VERSION
from schemas.topics import DEFAULT_PARTITIONS, TOPICS, Cleanup, Topic

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ASYNCAPI_VERSION = "3.0.0"
_KAFKA_BINDING = "0.5.0"
#: AsyncAPI's own schema format is a draft-07 dialect; ours are 2020-12 and say so.
_SCHEMA_FORMAT = "application/schema+json;version=2020-12"
#: Assay's side of each topic, by the table's direction.
_ACTIONS = {"in": ("receive",), "out": ("send",), "internal": ("send", "receive")}
_ROLES = {"in": "the storefront writes it", "out": "the storefront may read it", "internal": "between Assay's own workers"}


def messages() -> Iterator[type[BaseModel]]:
    """Every message model of the table of topics, each once, in the table's order."""
    yield from dict.fromkeys(model for topic in TOPICS for model in topic.models)


def schema_id(model: type[BaseModel]) -> str:
    """The ``$id`` of a message's schema. It names the major version: readers accept any minor of it."""
    return f"urn:assay:schema:{SCHEMA_VERSION.split('.', maxsplit=1)[0]}:{model.__name__}"


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema 2020-12 of what a reader accepts: fields with a default may be absent, unknown fields may be there."""
    return {"$schema": DIALECT, "$id": schema_id(model), **model.model_json_schema(mode="validation")}


def file_name(model: type[BaseModel]) -> str:
    """The file that ``write`` gives a message's schema."""
    return f"{model.__name__}.schema.json"


def asyncapi(*, partitions: int = DEFAULT_PARTITIONS, topic_prefix: str = "") -> dict[str, Any]:
    """One AsyncAPI 3 document, seen from Assay: it receives what a storefront writes and sends what one reads.

    Payloads refer to the schema files beside the document.
    """
    return {
        "asyncapi": _ASYNCAPI_VERSION,
        "id": "urn:assay",
        "info": {
            "title": "Assay",
            "version": version("assay"),
            "description": "Shopper events and products in, recommendations and rolling valuation out. Amounts are decimal strings, times "
            "carry zones, unknown fields are ignored. Records are written in transactions: read with isolation.level=read_committed.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:9092", "protocol": "kafka", "description": "The default of --bootstrap-servers."}},
        "channels": {topic.name: _channel(topic, partitions, topic_prefix) for topic in TOPICS},
        "operations": {f"{action}.{topic.name}": _operation(topic, action) for topic in TOPICS for action in _ACTIONS[topic.direction]},
        "components": {"messages": {model.__name__: _message(model) for model in messages()}},
    }


def write(folder: Path, *, partitions: int = DEFAULT_PARTITIONS, topic_prefix: str = "") -> list[Path]:
    """Write all documents into ``folder`` (made if absent) and return their paths, ``asyncapi.json`` last."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = {file_name(model): json_schema(model) for model in messages()}
    documents["asyncapi.json"] = asyncapi(partitions=partitions, topic_prefix=topic_prefix)
    paths = []
    for name, document in documents.items():
        path = folder / name
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def _channel(topic: Topic, partitions: int, topic_prefix: str) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": [topic.cleanup.value]}
    if topic.cleanup is Cleanup.DELETE:
        configuration["retention.ms"] = topic.retention_ms
    together = " Partitioned like storefront.events." if topic.co_partitioned else ""
    return {
        "address": topic_prefix + topic.name,
        "title": topic.name,
        "description": f"{topic.summary} Keyed by {topic.key}; {_ROLES[topic.direction]}.{together}",
        "messages": {model.__name__: {"$ref": f"#/components/messages/{model.__name__}"} for model in topic.models},
        "bindings": {
            "kafka": {
                "topic": topic_prefix + topic.name,
                "partitions": partitions,
                "topicConfiguration": configuration,
                "bindingVersion": _KAFKA_BINDING,
            }
        },
    }


def _operation(topic: Topic, action: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": topic.summary,
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{model.__name__}"} for model in topic.models],
    }


def _message(model: type[BaseModel]) -> dict[str, Any]:
    keys = " or ".join(dict.fromkeys(topic.key for topic in TOPICS if model in topic.models))
    return {
        "name": model.__name__,
        "title": model.__name__,
        "summary": (model.__doc__ or "").split("\n", maxsplit=1)[0],
        "contentType": "application/json",
        "payload": {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": f"./{file_name(model)}"}},
        "bindings": {"kafka": {"key": {"type": "string", "description": keys}, "bindingVersion": _KAFKA_BINDING}},
    }

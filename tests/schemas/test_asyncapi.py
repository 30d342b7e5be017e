from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from schemas.export import asyncapi, file_name, messages, write
from schemas.topics import EVENTS, TOPICS

#: The package that carries the specification's own JSON Schema.
_SPECS = "@asyncapi/specs@6.8.0"


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> Draft7Validator:
    """AsyncAPI's schema of AsyncAPI 3.0.0, from npm (270 kB)."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is absent; it fetches AsyncAPI's own schema")
    folder = tmp_path_factory.mktemp("asyncapi")
    fetched = subprocess.run(
        [npm, "pack", "--silent", "--fetch-retries=0", "--fetch-timeout=20000", _SPECS],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode != 0:
        pytest.skip(f"npm could not fetch {_SPECS}: {fetched.stderr.strip()[-200:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        schema = archive.extractfile("package/schemas/3.0.0.json")
        assert schema is not None
        return Draft7Validator(json.load(schema))


def test_should_be_valid_asyncapi_3(specification: Draft7Validator):
    document = asyncapi()
    assert [error.message for error in specification.iter_errors(document)] == []
    document["operations"][f"receive.{EVENTS.name}"]["action"] = "listen"
    assert not specification.is_valid(document)


def test_should_describe_every_topic_of_the_table():
    document = asyncapi(partitions=12, topic_prefix="shop.")
    assert list(document["channels"]) == [topic.name for topic in TOPICS]
    for topic in TOPICS:
        channel = document["channels"][topic.name]
        binding = channel["bindings"]["kafka"]
        assert channel["address"] == binding["topic"] == f"shop.{topic.name}"
        assert binding["partitions"] == 12
        assert binding["topicConfiguration"]["cleanup.policy"] == [topic.cleanup]
        assert binding["topicConfiguration"].get("retention.ms") == (topic.retention_ms if topic.cleanup == "delete" else None)
        assert list(channel["messages"]) == [model.__name__ for model in topic.models]


def test_should_be_told_from_our_side():
    operations = asyncapi()["operations"]
    assert operations["receive.storefront.events"]["action"] == "receive"
    assert "send.storefront.events" not in operations
    assert operations["send.recommendations"]["action"] == "send"
    assert {"send.outcomes", "receive.outcomes"} <= operations.keys()


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    return [found for value in node for found in _references(value)] if isinstance(node, list) else []


def test_should_only_refer_to_what_is_there(tmp_path: Path):
    written = {path.name: json.loads(path.read_text()) for path in write(tmp_path)}
    assert set(written) == {file_name(model) for model in messages()} | {"asyncapi.json"}
    document = written["asyncapi.json"]
    references = _references(document)
    assert len(references) > 3 * len(TOPICS)
    for reference in references:
        if reference.startswith("./"):
            assert reference[2:] in written
        else:
            node = document
            for part in reference.removeprefix("#/").split("/"):
                node = node[part]


def test_should_be_the_same_bytes_each_time(tmp_path: Path):
    first = {path.name: path.read_bytes() for path in write(tmp_path / "a")}
    assert first == {path.name: path.read_bytes() for path in write(tmp_path / "b")}

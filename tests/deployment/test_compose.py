"""docker-compose.yml without Docker: the file is whole, and every command in it is one that `assay` accepts."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from streams.cli import main
from streams.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ASSAY = [name for name, service in SERVICES.items() if service.get("command")]


def test_every_role_runs_and_recommend_runs_twice():
    roles = [service["command"][2] for service in SERVICES.values() if service.get("command", [""])[0] == "worker"]
    assert sorted(roles) == ["embed", "embed", "recommend", "recommend", "value"]
    assert SERVICES["serve"]["command"][0] == "serve"
    assert SERVICES["topics"]["command"] == ["topics", "create"]


def test_only_the_gpu_worker_waits_for_a_profile_and_asks_for_a_gpu():
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["embed-gpu"]
    device = SERVICES["embed-gpu"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert device["capabilities"] == ["gpu"]
    assert SERVICES["embed-gpu"]["build"]["args"]["FAISS"] == "gpu"


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "topics"])
def test_every_lasting_service_restarts_keeps_its_data_apart_and_tells_its_health(name: str):
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    (volume,) = service["volumes"]
    volume_name = volume.split(":")[0]
    assert volume_name == name
    assert volume_name in COMPOSE["volumes"]


@pytest.mark.parametrize("name", ASSAY)
def test_services_start_after_the_topics_exist(name: str):
    condition = {"topics": ("kafka", "service_healthy")}.get(name, ("topics", "service_completed_successfully"))
    assert SERVICES[name]["depends_on"] == {condition[0]: {"condition": condition[1]}}


@pytest.mark.parametrize("name", ASSAY)
def test_every_command_is_one_that_the_command_line_accepts(name: str):
    context: click.Context = click.Context(main, info_name="assay")
    command: click.Command = main
    arguments = list(SERVICES[name]["command"])
    while isinstance(command, click.Group):
        word, found, arguments = command.resolve_command(context, arguments)
        assert word is not None
        assert found is not None
        context, command = click.Context(found, info_name=word, parent=context), found
    command.parse_args(context, arguments)


@pytest.mark.parametrize("name", ASSAY)
def test_every_assay_variable_is_a_setting(name: str):
    variables = [key for key in SERVICES[name]["environment"] if key.startswith("ASSAY_")]
    assert variables
    unknown = {key.removeprefix("ASSAY_").lower() for key in variables} - set(Settings.model_fields)
    assert not unknown


def test_nothing_listens_beyond_this_machine():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert ipaddress.ip_address(Settings.model_fields["metrics_host"].default).is_loopback


@pytest.mark.parametrize("name", [name for name in ASSAY if SERVICES[name]["command"][0] == "worker"])
def test_the_metrics_of_every_worker_can_be_scraped_from_the_compose_network(name: str, monkeypatch: pytest.MonkeyPatch):
    for variable, value in SERVICES[name]["environment"].items():
        if "$" not in value:
            monkeypatch.setenv(variable, value)
    settings = Settings()
    assert ipaddress.ip_address(settings.metrics_host).is_unspecified
    assert f":{settings.metrics_port}/metrics" in SERVICES[name]["healthcheck"]["test"][-1]


def test_constraints_pin_every_package_and_name_no_index():
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) > 50
    assert all("==" in line and "://" not in line and "@" not in line for line in lines)
    pinned = dict(line.lower().split("==") for line in lines)
    assert (pinned["faust-streaming"], pinned["aiokafka"], pinned["rocksdict"]) == ("0.15.3", "0.14.0", "0.3.29")


def test_the_image_holds_the_packages_and_runs_as_a_user():
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    for package in ("schemas", "models", "streams"):
        assert f"COPY {package} {package}" in dockerfile
    assert "\nUSER assay\n" in dockerfile
    assert 'ENTRYPOINT ["assay"]' in dockerfile

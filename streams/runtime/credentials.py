"""How Faust's own consumer reaches the broker, from the same settings as librdkafka's clients."""

from __future__ import annotations

import ssl

from faust import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT
from yarl import URL

from streams.settings import Settings


def broker_urls(settings: Settings) -> list[URL]:
    """``bootstrap_servers`` as Faust's broker URLs."""
    return [URL(f"aiokafka://{server.strip()}") for server in settings.bootstrap_servers.split(",")]


def broker_credentials(settings: Settings) -> CredentialsT | None:
    """TLS and SASL for Faust; None for plaintext."""
    if settings.security_protocol == "PLAINTEXT":
        return None
    cafile = str(settings.ssl_ca_location) if settings.ssl_ca_location is not None else None
    context = ssl.create_default_context(cafile=cafile) if settings.security_protocol.endswith("SSL") else None
    if settings.security_protocol == "SSL":
        return SSLCredentials(context)
    password = settings.sasl_password.get_secret_value() if settings.sasl_password else ""
    return SASLCredentials(username=settings.sasl_username or "", password=password, ssl_context=context, mechanism=settings.sasl_mechanism)

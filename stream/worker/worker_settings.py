"""The settings of a worker process, or one sentence and exit code 2, however the worker is started."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError

from funnelwatch.schemas.kafka_config import KafkaConfigError
from funnelwatch.schemas.settings import PREFIX, explain, load_settings
from funnelwatch.stream.worker.broker_credentials import broker_credentials

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.stream.worker.broker_credentials import Credentials


def read_settings() -> tuple[Settings, Credentials | None]:
    """Read the settings, and what Faust needs to connect to Kafka; end the process if that cannot work.

    ``faust -A funnelwatch.stream.app worker`` imports the app itself, so that nobody else could turn an error into a
    sentence.
    """
    try:
        settings = load_settings()
        return settings, broker_credentials(settings.revealed_kafka_config)
    except ValidationError as error:
        messages = explain(error)
    except KafkaConfigError as error:
        messages = [f"{PREFIX}KAFKA_CONFIG: {error}"]
    for message in messages:
        print(f"Error: {message}", file=sys.stderr)
    sys.exit(2)

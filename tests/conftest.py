"""What all tests share."""

import asyncio

import pytest
from hypothesis import HealthCheck, settings

from tests.certificates import certificates

__all__ = ["certificates", "no_ambient_event_loop"]

# Speed is no test's business: a slow machine must not fail one. Derandomised, so that a run tells
# of the change that it tests and not of chance; `--hypothesis-profile=explore` looks further.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", settings.get_profile("default"), derandomize=False, max_examples=5_000
)
settings.load_profile("default")


@pytest.fixture(scope="session", autouse=True)
def no_ambient_event_loop() -> None:
    """Leave pytest-asyncio no ambient loop to create, remember and forget to close."""
    asyncio.set_event_loop(None)

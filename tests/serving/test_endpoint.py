"""What an endpoint's config refuses before anything is sent."""

import datetime

import pytest
from pydantic import ValidationError

from bllossom.errors import ConfigError
from bllossom.serving.endpoint import Endpoint

URL = "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    "url",
    ["http://localhost:abc/v1", "http://localhost:99999/v1", "https://", "http://[::1/v1", "http://a b/v1", f"{URL}\n"],
)
def test_an_address_that_is_none(url):
    with pytest.raises(ValidationError, match="is no address of an endpoint; write it as https://host/v1"):
        Endpoint(url=url, model="m")


@pytest.mark.parametrize("url", [URL, "https://api.openai.com/v1", "http://[::1]:8000", "http://user:word@host/v1?x=1"])
def test_addresses(url):
    assert Endpoint(url=url, model="m").url == url


@pytest.mark.parametrize("value", [datetime.date(2026, 1, 1), float("nan"), {"deep": [{1, 2}]}, {1: 0, "a": 0}])
def test_parameters_that_no_request_can_hold(value):
    with pytest.raises(ValidationError, match=r"stop: .* is no JSON; put a date or the like in quotes"):
        Endpoint(url=URL, model="m", parameters={"seed": 1, "stop": value})


@pytest.mark.parametrize("key", ["“sk-5f2d”", "sk-5f2d\nsk-77"])
def test_a_key_that_no_header_can_hold_is_told_and_not_shown(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY has characters that no key has") as caught:
        Endpoint(url=URL, model="m").key()
    assert "5f2d" not in str(caught.value)

"""How an OpenAI-compatible endpoint is named in a config, and what a request to it costs."""

import json
import os
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from bllossom.config import Model
from bllossom.errors import ConfigError

Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": text}`."""


class Price(Model):
    """What tokens cost, in any currency."""

    input: Annotated[float, Field(ge=0, description="per million tokens sent")]
    output: Annotated[float, Field(ge=0, description="per million tokens answered")]

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """The money for so many tokens."""
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:  # a port that is no number, half an IPv6 address
        usable = False
    if not usable:
        raise ValueError(f"{url!r} is no address of an endpoint; write it as https://host/v1, or http://host:8000/v1")
    return url


def _as_json(parameters: dict[str, Any]) -> dict[str, Any]:
    for name, value in parameters.items():
        try:
            json.dumps(value, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {value!r} is no JSON; put a date or the like in quotes") from error
    return parameters


class Endpoint(Model):
    """An OpenAI-compatible endpoint (`POST <url>/chat/completions`) and how it is asked."""

    url: Annotated[
        str,
        AfterValidator(_address),
        Field(pattern="^https?://", description="without /chat/completions, as https://host/v1"),
    ]
    model: Annotated[str, Field(description="the model's name there")]
    key_variable: Annotated[
        str | None, Field(description="the environment variable that holds the key; null for an endpoint without one")
    ] = "OPENAI_API_KEY"
    temperature: Annotated[float, Field(ge=0, description="0: the likeliest token each time")] = 0.0
    max_tokens: Annotated[int, Field(ge=1, description="tokens of one answer at most")] = 4096
    parameters: Annotated[
        dict[str, Any],
        AfterValidator(_as_json),
        Field(default_factory=dict, description="more keys of the request's body, as top_p or seed"),
    ]
    concurrency: Annotated[int, Field(ge=1, description="requests under way at once")] = 8
    attempts: Annotated[int, Field(ge=1, description="for one request, on 429, 5xx, time-outs and broken answers")] = 6
    timeout_seconds: Annotated[float, Field(gt=0, description="for one attempt")] = 120.0
    backoff_seconds: Annotated[
        float, Field(gt=0, description="before the second attempt, doubled for each further one; Retry-After is obeyed")
    ] = 1.0
    price: Annotated[Price | None, Field(description="money per million tokens; null: not counted")] = None
    max_cost: Annotated[
        float | None, Field(gt=0, description="money for all runs over one file of answers; null: no bound")
    ] = None

    @model_validator(mode="after")
    def _bounded_by_a_price(self) -> "Endpoint":
        if self.max_cost is not None and self.price is None:
            raise ValueError("max_cost needs price: {input, output}, money per million tokens")
        taken = {"model", "messages", "temperature", "max_tokens", "stream", "n"} & self.parameters.keys()
        if taken:
            raise ValueError(f"parameters: {', '.join(sorted(taken))} cannot be set there")
        return self

    def body(self, messages: list[Message]) -> dict[str, Any]:
        """The JSON of a request."""
        settings = {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}
        return {**settings, **self.parameters, "messages": messages}

    def key(self) -> str | None:
        """The key from the environment; None for an endpoint without one.

        Raises:
            ConfigError: the variable is not set, or holds what no header can.
        """
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise ConfigError(
                f"the environment variable {self.key_variable} is not set; put the key for {self.url} into it, "
                "or set key_variable: null for an endpoint without one"
            )
        if not key.isascii() or not key.isprintable():
            raise ConfigError(
                f"the key in the environment variable {self.key_variable} has characters that no key has (as a curly "
                "quotation mark, or a line's end); set it anew"
            )
        return key

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """The money for so many tokens; 0 without a price."""
        return self.price.of(input_tokens, output_tokens) if self.price else 0.0


def estimate_tokens(text: str) -> int:
    """About how many tokens a text takes, for a plan: four ASCII characters, or one other character, each."""
    ascii_characters = sum(character.isascii() for character in text)
    return -(-ascii_characters // 4) + len(text) - ascii_characters


def estimate_input_tokens(messages: list[Message]) -> int:
    """About how many tokens a request sends; each message takes four more for its role and ends."""
    return sum(estimate_tokens(message["content"]) + 4 for message in messages)

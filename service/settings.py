"""Settings of the service, read once from LATENTSERVE_* variables and then frozen."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

MIB = 1024 * 1024
PREFIX = "LATENTSERVE_"
# The tests read their data folder from this variable.
NOT_SETTINGS = frozenset({"LATENTSERVE_DATA"})

# Kubernetes sets these variables in every pod of a namespace that has a service whose name begins with `latentserve`.
_LINK = re.compile(
    r"LATENTSERVE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)"
)
_LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://.+")


def _like(pattern: str, rule: str) -> AfterValidator:
    """A check that a text matches `pattern`, whose error is the `rule`."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise PydanticCustomError("text", "{rule}", {"rule": rule})
        return text

    return AfterValidator(check)


def _not_empty(given: object) -> object:
    """Refuse an empty path: a service whose variable lacks its value by mistake would be open."""
    if given == "":
        rule = "must be the path of a file; without this variable the service needs no keys"
        raise PydanticCustomError("path", "{rule}", {"rule": rule})
    return given


RootPath = Annotated[
    str,
    _like(
        r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*",
        "must be empty or a path of letters, digits and ._~- that begins with / and does not end with /",
    ),
]
KeysFile = Annotated[Path, BeforeValidator(_not_empty)]
Device = Annotated[str, _like(r"auto|cpu|cuda(:[0-9]+)?", "must be auto, cpu, cuda, or cuda: and a number")]


Network = IPv4Network | IPv6Network


def _networks(given: object) -> object:
    """Networks out of a text that lists them, with commas between them."""
    if not isinstance(given, str):
        return given
    try:
        return tuple(ip_network(text.strip()) for text in given.split(",") if text.strip())
    except ValueError as error:
        rule = "must list addresses, or networks such as 10.0.0.0/8, with commas between them"
        raise PydanticCustomError("networks", "{rule}: {error}", {"rule": rule, "error": str(error)}) from None


Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]


class _Environment(PydanticBaseSettingsSource):
    """All LATENTSERVE_* variables. Unknown ones are included, so that `extra="forbid"` refuses them."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return {
            name.upper().removeprefix(PREFIX).lower(): value
            for name, value in os.environ.items()
            if name.upper().startswith(PREFIX) and name not in NOT_SETTINGS and not is_service_link(name, value)
        }


class Settings(BaseSettings):
    """The settings. Each field has a variable: `LATENTSERVE_PORT=9000` sets `port`.

    Raises:
        ValidationError: a value is invalid, or a LATENTSERVE_* variable is unknown.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    processes: int = Field(
        0, ge=0, le=1024, description="processes that serve; 0 takes what processors, memory and pids allow"
    )
    root_path: RootPath = Field(
        "",
        description="path prefix that a reverse proxy strips, such as /models/digits; empty if none",
    )
    trusted_proxies: Networks = Field(
        (),
        description="addresses and networks of the proxies whose X-Forwarded-For names the client; empty if none",
    )
    api_keys_file: KeysFile | None = Field(
        None, description="file of API keys, one of which every request but probes then needs; none leaves all open"
    )
    checkpoints: Path = Field(
        Path(__file__).resolve().parent.parent / "checkpoints", description="folder of the published model"
    )
    device: Device = Field("auto", description="where digits are drawn: auto, cpu, cuda or cuda:0; auto prefers CUDA")

    max_body_bytes: PositiveInt = Field(128 * MIB, description="maximum bytes of one request body")
    max_elements: PositiveInt = Field(
        2**23, description="maximum elements of one JSON body, counted by its commas, or of one body of arrays"
    )
    max_inflight_bytes: PositiveInt = Field(
        512 * MIB, description="maximum bytes of all request bodies above 64 KiB held at once; one caller has half"
    )
    connections: PositiveInt = Field(8192, description="maximum open connections")
    header_seconds: PositiveFloat = Field(10.0, description="seconds that a client may take for the head of a request")
    body_idle_seconds: PositiveFloat = Field(
        30.0,
        description="seconds in which a client must send the next 4 KiB of a body, or its end, and take the next 4 KiB "
        "of an answer",
    )
    keepalive_seconds: PositiveFloat = Field(
        75.0, description="seconds after which a connection without a request is closed"
    )
    max_wait_seconds: PositiveFloat = Field(
        2.0, description="predicted seconds above which a request without X-Timeout-Seconds is refused"
    )
    max_effort: PositiveFloat = Field(
        2e12, description="maximum pairs x D x iterations of one registration, about one or two hours of work"
    )

    queue_items: PositiveInt = Field(4096, description="maximum jobs that wait in one lane")
    queue_batches: PositiveInt = Field(1024, description="maximum queued work of one lane, in full batches")
    batch_items: PositiveInt = Field(256, description="maximum jobs in one batch")
    # One core takes 296 us for a translation of 100 x 100 points in batches of 2^18 pairs, 247 us in those of 2^19 and
    # 229 us in those of 2^20. A batch lasts 7, 12 and 22 ms, for which other registrations wait.
    batch_pairs: PositiveInt = Field(2**19, description="maximum pairs (N x M) in one EM batch")
    small_effort: PositiveFloat = Field(
        4e7, description="pairs x D x iterations above which a registration uses the lane for large ones"
    )
    batch_elements: PositiveInt = Field(2**20, description="maximum array elements in one VAE batch")
    batch_images: PositiveInt = Field(64, description="maximum images in one GAN batch")

    drain_seconds: NonNegativeFloat = Field(
        2.0,
        le=86400,
        description="seconds after SIGTERM during which requests are still served, with /readyz at 503",
    )
    shutdown_seconds: PositiveFloat = Field(
        20.0, le=86400, description="seconds after the drain for running requests to finish"
    )
    stall_seconds: PositiveFloat = Field(
        900.0, description="seconds without progress after which a running batch counts as stalled and /livez fails"
    )
    hang_seconds: PositiveFloat = Field(
        30.0,
        ge=5,
        description="seconds after which a process is killed and replaced if its event loop, or its computation on a "
        "GPU, stands still; a process that serves alone ends",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    access_log_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the successful requests that the log has; failed and slow ones are always logged",
    )
    slow_seconds: PositiveFloat = Field(1.0, description="seconds from which a request counts as slow")
    log_format: Literal["json", "console"] = Field("json", description="json, or console for human readers")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments take precedence over the environment."""
        return init_settings, _Environment(settings_cls)


def variable(setting: str) -> str:
    """The environment variable of a setting: `LATENTSERVE_PORT` for `port`."""
    return PREFIX + setting.upper()


def nearest_variable(name: str) -> str | None:
    """The environment variable of the setting whose name is most similar to `name`; None if no name is similar."""
    # Without the common prefix, which would make all names similar.
    near = difflib.get_close_matches(name.removeprefix(PREFIX).lower(), Settings.model_fields, n=1)
    return variable(near[0]) if near else None


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes set this variable to point to a service, as in `LATENTSERVE_PORT=tcp://10.0.0.7:8000`."""
    if not name.startswith(PREFIX):
        return False
    return bool(_LINK.fullmatch(name) or (name.endswith("_PORT") and _LINK_ADDRESS.fullmatch(value)))


def service_links(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that are Kubernetes' service links, sorted. They are not settings."""
    return sorted(name for name, value in environment.items() if is_service_link(name, value))

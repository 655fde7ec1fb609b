"""Settings: everything an operator can turn, read once from LATENTSERVE_* variables and passed down frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024


class Settings(BaseSettings):
    """What the service runs with. `LATENTSERVE_PORT=9000` sets `port`, and so on for every field."""

    model_config = SettingsConfigDict(env_prefix="LATENTSERVE_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    checkpoints: Path = Field(
        Path(__file__).resolve().parent.parent / "checkpoints", description="folder that training published into"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto takes CUDA where there is one")

    max_body_bytes: PositiveInt = Field(128 * MIB, description="largest request body")
    max_elements: PositiveInt = Field(2**23, description="elements of one JSON body, counted by its commas")
    max_inflight_bytes: PositiveInt = Field(512 * MIB, description="request bodies held at once, all together")
    max_effort: PositiveFloat = Field(2e12, description="pairs x D x iterations of one registration, an hour or two")

    queue_items: PositiveInt = Field(4096, description="jobs that may wait for one engine")
    queue_batches: PositiveInt = Field(1024, description="and how many full batches of work they may add up to")
    batch_items: PositiveInt = Field(256, description="jobs in one batch")
    batch_pairs: PositiveInt = Field(2**18, description="pairs (N x M) in one EM batch")
    small_effort: PositiveFloat = Field(
        2e8, description="an EM problem of more pairs x D x iterations goes by the lane for large ones"
    )
    batch_elements: PositiveInt = Field(2**20, description="array elements in one VAE batch")
    batch_images: PositiveInt = Field(64, description="images in one GAN batch")

    drain_seconds: NonNegativeFloat = Field(
        2.0,
        le=86400,
        description="after SIGTERM: seconds of serving on with /readyz 503, so balancers look away",
    )
    shutdown_seconds: PositiveFloat = Field(20.0, le=86400, description="after that: seconds for running requests")
    stall_seconds: PositiveFloat = Field(900.0, description="a batch that runs longer fails /livez")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning, error")
    log_format: Literal["json", "console"] = Field("json", description="json, or console for reading by eye")

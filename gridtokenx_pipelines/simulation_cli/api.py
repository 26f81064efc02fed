"""The control API: health, state, start, stop, speed, faults, meters. OpenAPI at /docs and /openapi.json.

Belongs here: routes and their documents. Does not belong here: the run (runner.py). It has no users and no passwords:
it is bound to this machine unless told otherwise, and belongs behind a gateway elsewhere. Errors are
`{"error": name, "detail": text}`: 409 for an action that the state forbids, 422 for values out of bounds, 404.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gridtokenx_pipelines.grid.errors import NetworkError
from gridtokenx_pipelines.simulation.fleet.errors import SimulationError
from gridtokenx_pipelines.simulation.fleet.scenario import Scenario
from gridtokenx_pipelines.simulation.grids import UnknownGridError
from gridtokenx_pipelines.simulation_cli.runner import FAILED, RunError, Runner


class Start(BaseModel):
    """How to start; `scenario` overrides options of the server's own, field by field, and begins a new run."""

    model_config = ConfigDict(extra="forbid")
    scenario: dict[str, Any] | None = Field(None, description="Fields of a scenario, as in /state.")
    steps: int = Field(0, ge=0, description="Steps to play; 0: until stopped.")
    speed: float | None = Field(None, ge=0, description="Simulated seconds a second; 0: no brake.")


class Speed(BaseModel):
    """A new speed."""

    model_config = ConfigDict(extra="forbid")
    speed: float = Field(ge=0, description="Simulated seconds a second; 0: no brake.")


class Inject(BaseModel):
    """A fault on demand: of some meters or of a zone."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["silent", "frozen", "drifting", "tampering", "clock_skew", "outage", "false_data"]
    meters: list[str] = Field(default_factory=list)
    zone_id: int | None = None
    after: int = Field(0, ge=0, description="Simulated seconds from now.")
    seconds: int = Field(gt=0, description="How long, in simulated seconds.")
    size: float = Field(0.0, description="As the kind says; 0: its default.")


def build_api(runner: Runner, base: Scenario) -> FastAPI:
    """The application around a runner; `base`: the scenario that /start's fields override."""
    api = FastAPI(
        title="smartmeter-simulator",
        summary="GridTokenX: a fleet of meters on a real network.",
        version="1",
        responses={409: {"description": "The state forbids it."}},
    )

    @api.exception_handler(RunError)
    def _forbidden(_: Request, error: RunError) -> JSONResponse:
        return JSONResponse({"error": type(error).__name__, "detail": str(error)}, 409)

    @api.exception_handler(SimulationError)
    @api.exception_handler(UnknownGridError)
    @api.exception_handler(NetworkError)
    @api.exception_handler(msgspec.ValidationError)
    def _refused(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": type(error).__name__, "detail": str(error)}, 422)

    @api.exception_handler(RequestValidationError)
    def _misshapen(_: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()[0]
        where = ".".join(map(str, found["loc"][1:])) or "the body"
        detail = f"{where} was {found.get('input')!r}: {found['msg']}; correct it (/docs)"
        return JSONResponse({"error": "RequestError", "detail": detail}, 422)

    @api.exception_handler(HTTPException)
    def _unknown(request: Request, error: HTTPException) -> JSONResponse:
        detail = f"{request.method} {request.url.path}: {error.detail}; the routes are at /docs"
        return JSONResponse({"error": "RouteError", "detail": detail}, error.status_code)

    @api.get("/health")
    def health() -> JSONResponse:
        """200 while the service works, 503 after a run failed."""
        state = runner.state()
        failed = state["state"] == FAILED
        return JSONResponse(
            {"status": "failed" if failed else "ok", "state": state["state"], "error": state["error"]},
            503 if failed else 200,
        )

    @api.get("/state")
    def state() -> dict[str, Any]:
        """Time, speed, last step, totals, active faults."""
        return runner.state()

    @api.post("/start", status_code=202)
    def start(asked: Start) -> dict[str, Any]:
        """Begin a run, or go on with a stopped one (no scenario). Building takes seconds: watch /state."""
        scenario = None
        if asked.scenario is not None:
            scenario = msgspec.convert(msgspec.to_builtins(base) | asked.scenario, Scenario)
        runner.start(scenario, steps=asked.steps, speed=asked.speed)
        return _brief(runner)

    @api.post("/stop")
    def stop() -> dict[str, Any]:
        """Stop after the step that is being played."""
        runner.stop()
        return _brief(runner)

    @api.post("/speed")
    def speed(asked: Speed) -> dict[str, Any]:
        """Change the speed of the run."""
        runner.set_speed(asked.speed)
        return _brief(runner)

    @api.post("/faults", status_code=201)
    def inject(asked: Inject) -> dict[str, Any]:
        """Inject a fault."""
        return runner.inject(asked.model_dump() | {"meters": tuple(asked.meters)})

    @api.get("/faults")
    def faults() -> list[dict[str, Any]]:
        """Faults on demand of this run."""
        return runner.faults()

    @api.get("/meters")
    def meters(
        offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
    ) -> list[dict[str, Any]]:
        """Meters, ascending by id, with what they last showed."""
        return runner.meters(offset, limit)

    return api


def _brief(runner: Runner) -> dict[str, Any]:
    state = runner.state()
    return {name: state.get(name) for name in ("state", "error", "speed", "time")}

"""The transformer's own meter of a simulated neighbourhood: what upstream gave and took, losses included.

Belongs here: true powers → AC power flow → registers in whole Wh, signed. Does not belong here: households
(registers.py), storing (store/transformer.py). Power is constant over an epoch, so import and export never mix in one;
energy is summed in whole µWh and floored only when read, like every register.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from nacl.signing import SigningKey

from gridtokenx_pipelines.epochs import start_us
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.power_flow import FlowResult
from gridtokenx_pipelines.grid.states import W_PER_WH, flow
from gridtokenx_pipelines.metering.readings import Reading, encode, sign_reading
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood
from gridtokenx_pipelines.simulation.registers import UWH_PER_WH, Registers

TRANSFORMER_ID = "TRANSFORMER-1"
UWH_PER_MW_EPOCH = 10**12 // W_PER_WH


def transformer_key(neighbourhood: Neighbourhood) -> SigningKey:
    """The device key of the transformer's meter."""
    return neighbourhood.keys.meter(TRANSFORMER_ID)


def transformer_documents(
    neighbourhood: Neighbourhood, case: GridCase, start_epoch: int, epochs: int
) -> Iterator[tuple[bytes, bytes]]:
    """(document, signature) of the registers at every boundary of the run, its end included.

    Raises ValueError where an epoch's power flow has no solution: a meter can't count what isn't known.
    """
    registers, columns = Registers(neighbourhood, start_epoch, epochs), case.columns()
    powers = np.zeros((2, epochs, len(columns)))
    for place, meter in enumerate(neighbourhood.meters):
        for step in range(epochs):
            powers[:, step, columns[meter.meter_id]] = registers.power_w(place, start_epoch + step)
    result = flow(case, powers[0], powers[1])
    if not result.converged.all():
        bad = start_epoch + int(np.flatnonzero(~result.converged)[0])
        raise ValueError(f"epoch {bad} had no power flow, must have one for the transformer's meter; use another grid")
    drawn = [round(float(mw) * UWH_PER_MW_EPOCH) for mw in result.slack_mw]
    key = transformer_key(neighbourhood)
    import_uwh = export_uwh = 0
    for step in range(epochs + 1):
        value = encode(
            Reading(
                meter_id=TRANSFORMER_ID,
                zone_id=1,
                seq=step + 1,
                timestamp=start_us(start_epoch + step),
                production_wh=import_uwh // UWH_PER_WH,
                consumption_wh=export_uwh // UWH_PER_WH,
                frequency_hz=50.0,
                **_electrical(case, result, max(step - 1, 0)),
            )
        )
        yield value, dict(sign_reading(value, neighbourhood.network_id, key))["sig"]
        if step < epochs:
            import_uwh += max(drawn[step], 0)
            export_uwh += max(-drawn[step], 0)


def _electrical(case: GridCase, result: FlowResult, step: int) -> dict[str, float]:
    """Voltage to neutral, current and power factor on the low-voltage side over the epoch that ended."""
    bus = int(np.flatnonzero(case.matrices.bus_ids == case.trafo_ends[0, 1])[0])
    kv = float(result.vm_pu[step, bus]) * float(case.matrices.base_kv[case.matrices.bus_place[bus]])
    active, apparent = float(result.slack_mw[step]), math.hypot(result.slack_mw[step], result.slack_mvar[step])
    return {
        "voltage_v": round(kv * 1_000 / math.sqrt(3), 2),
        "current_a": round(apparent * 1_000 / (math.sqrt(3) * kv), 3),
        "power_factor": round(abs(active) / apparent, 3) if apparent else 1.0,
    }

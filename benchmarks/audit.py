"""Audit of a range: 2 880 epochs of 80 meters, everything recomputed and compared, against the limit of 60 s.

Belongs here: measuring. Does not belong here: making the market (audit_world.py). `python -m benchmarks.audit`; a
shorter one with `--epochs 96`. The market is settled first, which takes minutes and is not what is measured.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import audit_world
from benchmarks.results import machine, table, write_section
from gridtokenx_pipelines.audit.findings import OK
from gridtokenx_pipelines.settlement_service.audits import files
from gridtokenx_pipelines.settlement_service.audits.service import audit_range

LIMIT_SECONDS, LIMIT_EPOCHS = 60, 2_880
SECTION = "audit"


def main() -> None:
    """Settle, audit, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=LIMIT_EPOCHS)
    parser.add_argument("--remark", default="")
    parser.add_argument("--no-results", action="store_true", help="print only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        started = time.monotonic()
        with audit_world.market(Path(folder), options.epochs) as services:
            settled = time.monotonic() - started
            print(f"settled {options.epochs} epochs in {settled:.0f} s (not measured)", flush=True)
            first, last = audit_world.FIRST, audit_world.FIRST + options.epochs - 1
            started = time.monotonic()
            outcome = audit_range(services, first, last, progress=lambda stage: print(stage, flush=True))
            path, _ = files.write(services, outcome, datetime.now(UTC))
            seconds = time.monotonic() - started
            if outcome.counts[OK] != options.epochs:
                bad = next(each for each in outcome.verdicts if each.verdict != OK)
                raise SystemExit(f"epoch {bad.epoch}: {bad.verdict}: {bad.detail}")
            size = path.stat().st_size
    rows = [("whole audit, dossier signed and written", seconds, f"≤ {LIMIT_SECONDS} s for {LIMIT_EPOCHS:,} epochs")]
    rows += [(stage, spent, "") for stage, spent in outcome.seconds.items()]
    text = "\n\n".join(
        [
            f"{machine('polars', 'PyNaCl', 'SQLAlchemy')} {options.remark}".strip(),
            f"{options.epochs:,} epochs of {audit_world.METERS} meters, "
            f"{outcome.gathered.replay.signatures:,} signatures verified, "
            f"{outcome.chain.receipts.height:,} receipts and {outcome.chain.compared_accounts:,} accounts "
            f"compared; dossier {size / 1e6:.1f} MB; peak memory "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB.",
            table(("stage", "seconds", "limit"), [(stage, f"{spent:.1f}", limit) for stage, spent, limit in rows]),
        ]
    )
    print(text)
    if not options.no_results:
        write_section(SECTION, text)


if __name__ == "__main__":
    main()

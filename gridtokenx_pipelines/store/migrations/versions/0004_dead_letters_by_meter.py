"""Dead letters are found by the meter they name, and know when they were sent to their topic again."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Three columns and an index; letters from before name no meter."""
    op.execute(
        "ALTER TABLE dead_letters ADD meter_id TEXT, ADD replays BIGINT NOT NULL DEFAULT 0, ADD replayed_us BIGINT"
    )
    op.execute("CREATE INDEX dead_letters_by_meter ON dead_letters (meter_id, reason)")


def downgrade() -> None:
    """The table as it was."""
    op.execute("DROP INDEX dead_letters_by_meter")
    op.execute("ALTER TABLE dead_letters DROP meter_id, DROP replays, DROP replayed_us")

"""When a run was booked: what is open for too long is stuck."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Runs booked before this get the time of the migration."""
    op.execute("ALTER TABLE runs ADD COLUMN booked_at TIMESTAMPTZ NOT NULL DEFAULT now()")


def downgrade() -> None:
    """Forget it."""
    op.execute("ALTER TABLE runs DROP COLUMN booked_at")

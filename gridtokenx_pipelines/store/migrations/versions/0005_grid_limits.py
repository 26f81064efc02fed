"""What an epoch was cleared under by the network: capacities and losses per link, and the state they came from."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables: a row per epoch, and a row per epoch and link."""
    op.execute(
        """
        CREATE TABLE grid_states (
            epoch BIGINT PRIMARY KEY,
            state_epoch BIGINT NOT NULL,
            source TEXT NOT NULL,
            case_fingerprint TEXT NOT NULL,
            converged BOOLEAN NOT NULL,
            lowest_pu DOUBLE PRECISION,
            highest_pu DOUBLE PRECISION,
            line_percent DOUBLE PRECISION,
            trafo_percent DOUBLE PRECISION,
            loss_wh BIGINT NOT NULL,
            violations TEXT NOT NULL,
            unplaced BIGINT NOT NULL,
            repairs TEXT NOT NULL DEFAULT '[]'
        )
        """
    )
    op.execute(
        """
        CREATE TABLE grid_limits (
            epoch BIGINT NOT NULL,
            link_id BIGINT NOT NULL,
            from_zone BIGINT NOT NULL,
            to_zone BIGINT NOT NULL,
            capacity_forward_wh BIGINT NOT NULL CHECK (capacity_forward_wh >= 0),
            capacity_backward_wh BIGINT NOT NULL CHECK (capacity_backward_wh >= 0),
            loss_ppm BIGINT NOT NULL CHECK (loss_ppm BETWEEN 0 AND 999999),
            binding_forward TEXT NOT NULL,
            binding_backward TEXT NOT NULL,
            cleared_forward_wh BIGINT NOT NULL CHECK (cleared_forward_wh BETWEEN 0 AND capacity_forward_wh),
            cleared_backward_wh BIGINT NOT NULL CHECK (cleared_backward_wh BETWEEN 0 AND capacity_backward_wh),
            PRIMARY KEY (epoch, link_id)
        )
        """
    )


def downgrade() -> None:
    """Drop both; epochs cleared under them can't be recomputed any more."""
    op.execute("DROP TABLE grid_limits")
    op.execute("DROP TABLE grid_states")

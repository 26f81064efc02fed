"""Seals: what every table and file of a settled run hashed to when it was settled."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SEALS = """
CREATE TABLE seals (
    epoch BIGINT NOT NULL,
    run BIGINT NOT NULL,
    what TEXT NOT NULL,
    sha256 BYTEA NOT NULL CHECK (length(sha256) = 32),
    content BYTEA CHECK (length(content) = 32),
    rows BIGINT NOT NULL,
    PRIMARY KEY (epoch, run, what)
);
COMMENT ON COLUMN seals.content IS 'of an archive file: what its records hash to, whatever file they lie in';
CREATE TRIGGER seals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON seals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


def upgrade() -> None:
    """Create the table."""
    op.get_bind().exec_driver_sql(SEALS)


def downgrade() -> None:
    """Drop the table."""
    op.execute("DROP TABLE seals")

"""Asset checks, thin: Dagster's shell around settlement_service/inspections."""

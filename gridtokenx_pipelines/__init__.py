"""GridTokenX Pipelines: signed meter readings to settled epochs on Solana."""

"""The chain: programs by their IDL, JSON-RPC client, outbox, set-up and runs; the local chain and a real validator."""

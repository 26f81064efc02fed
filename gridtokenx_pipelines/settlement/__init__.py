"""Settlement as pure functions: ledger, resettlement, batches and laws (domain §6, §7); no I/O."""

"""The market: orders, the book at the gate, clearing, charges. Pure functions on frames and structs, no I/O."""

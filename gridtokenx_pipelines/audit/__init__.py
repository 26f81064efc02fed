"""Audit as pure functions: everything recomputed from signed inputs and compared with what was stored; no I/O."""

"""A neighbourhood that behaves like a real one: grid and profiles of SimBench, signed telemetry and orders.

Belongs here: what the demo, benchmarks and tests feed in. Does not belong here: anything that settles; floats end
where a register is read. Depends on the domain for the bytes that are signed, never on adapters.
"""

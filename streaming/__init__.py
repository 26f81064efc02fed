"""Bytewax flows, thin: wiring of pure functions (metering, market) with adapters (messaging, store).

Belongs here: sources, sinks, steps, the process around them. Does not belong here: any rule of the domain.
"""

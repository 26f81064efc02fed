"""A fleet of meters on a real network: power flow every step, registers from it, faults on demand.

Belongs here: networks, fleets, weather, devices, the coupled step, the bytes that meters sign. Does not belong here:
Kafka, HTTP, threads (simulation_cli/), the demo's day (the room above), clearing. Every draw is a hash of seed, meter
and step, so a meter's behaviour doesn't depend on who else is simulated or in which order.
"""

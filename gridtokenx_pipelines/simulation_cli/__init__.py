"""The simulator as a service and a command: `gridtokenx simulate`, the control API, where events go.

Belongs here: threads, HTTP, Kafka, files, the clock that paces a run. Does not belong here: anything simulated
(simulation/fleet/).
"""

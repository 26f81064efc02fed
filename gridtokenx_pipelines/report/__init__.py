"""What people read at the end: a summary in the terminal and a report in one HTML file.

Belongs here: presentation of results that others computed. Does not belong here: reading stores or the chain; numbers
arrive as the contract's frames and the demo's result. Floats are used for the places of marks in plots only.
"""

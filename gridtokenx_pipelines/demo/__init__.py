"""The demo: one neighbourhood's day from signed readings to settled epochs, on the embedded stack."""

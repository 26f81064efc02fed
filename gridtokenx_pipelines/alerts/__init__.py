"""Alerts: telling people, by webhook and e-mail, what a sensor has found."""

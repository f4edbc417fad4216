"""Forecasts: when something will be done, whether it will be late, and what is out of the ordinary."""

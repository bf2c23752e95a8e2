"""Measures: functions of models and data that give numbers by name, the unit in the name."""

"""What everything agrees on: signals, spaces, capabilities, random numbers, recipes, stages. No layers, no models."""

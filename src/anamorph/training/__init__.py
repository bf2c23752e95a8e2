"""The training loop and what surrounds it: the machine it runs on, checkpoints, the weight average, the run's folder."""

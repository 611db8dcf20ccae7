"""Learning and repair: nudges, estimators, rules, the homeostat, training, sweeps and data."""

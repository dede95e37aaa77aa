"""Node mat_simulator: a MuJoCo plant with virtual patients."""

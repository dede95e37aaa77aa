"""Node finger_actuation: the fingers of the mat under force control."""

"""Node safety_supervisor: grants or withdraws the permit to move."""

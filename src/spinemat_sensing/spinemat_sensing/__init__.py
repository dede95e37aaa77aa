"""Node spine_contour: contact scan, contour, stiffness, breathing and guarding."""

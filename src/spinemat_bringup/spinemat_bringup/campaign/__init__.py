"""The fault campaign: break everything on purpose and let the plant's truth judge."""

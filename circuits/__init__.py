"""Chips: their designs, families, fabrication with mismatch, devices and archives."""

"""Finds the scales of int8 on calibration images."""

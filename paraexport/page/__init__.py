"""Turns the reports of bundles into pages for people. A page depends on `report.json` alone, and is one HTML file."""

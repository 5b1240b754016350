"""Lower precision, written into the graph: half, or int8 with scales from images; and what it costs, part by part."""

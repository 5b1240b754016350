def draw_peers(rows, header, output): pass

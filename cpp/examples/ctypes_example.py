"""The library from Python without a compiler: ctypes_example.py LIBRARY BUNDLE. It runs one grey image of 0.5."""

import ctypes
import sys

if len(sys.argv) != 3:
    sys.exit("usage: ctypes_example.py LIBRARY BUNDLE")
library = ctypes.CDLL(sys.argv[1])
library.paraexport_last_error.restype = ctypes.c_char_p
library.paraexport_label.restype = ctypes.c_char_p
engine = ctypes.c_void_p()
if library.paraexport_open(sys.argv[2].encode(), None, ctypes.byref(engine)):
    sys.exit(library.paraexport_last_error().decode())
info = (ctypes.c_size_t * 6)(6 * ctypes.sizeof(ctypes.c_size_t))  # size, channels, height, width, classes, max_batch
library.paraexport_get_info(engine, info)
_, channels, height, width, classes, _ = info
count = channels * height * width
images, logits = (ctypes.c_float * count)(*[0.5] * count), (ctypes.c_float * classes)()
if library.paraexport_run(engine, images, ctypes.c_size_t(1), logits):
    sys.exit(library.paraexport_last_error().decode())
best = max(range(classes), key=lambda index: logits[index])
print(library.paraexport_label(engine, ctypes.c_size_t(best)).decode(), logits[best])
library.paraexport_close(engine)

"""One module for each kind of input; its `READERS` are found by `tests.faults.reader.all_readers`."""

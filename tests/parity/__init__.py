"Parity with the original programs; a package, so that a file may be called as one in `tests/`."

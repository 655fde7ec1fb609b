"""Arrays of numbers in JSON text, read straight into ndarrays by compiled code, without the interpreter's lock."""

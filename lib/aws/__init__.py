"""AWS, one module for each kind of object, with plain values as arguments."""

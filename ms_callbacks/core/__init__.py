"""What all callbacks share. Private to the package: nothing here is part of the public interface.

Data has one way: MindSpore's `RunContext` is read by `run` alone, which hands plain numbers and tensors to a callback;
the callback decides in plain Python; one action follows (stop, save, set the rate, print).
"""

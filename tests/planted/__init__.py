"""Known mistakes, each a patch that puts one into the product, and the proof that the simulator finds every one.

``make planted-bugs`` prints the list. Nothing in the product can switch a mistake on: a copy of it is patched.
"""

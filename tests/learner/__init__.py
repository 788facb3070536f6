"""Tests of the read tree: the parent's side, the child's side, and whole trees of both."""

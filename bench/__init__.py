"""Measurements: ``python -m bench`` runs shardraft and its peers side by side, ``bench/puts.py`` puts alone.

What this package does: starts real clusters, drives them with the same work, checks what it wrote, prints
and draws what it saw. What it never does: run in CI, take part in the product, print a number without
saying of which work, which version and which promise on disk.
"""

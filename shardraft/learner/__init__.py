"""The read tree: how committed entries travel from voters to learners and on. Pure.

What this room does: the parent's side (feed) and the child's side (learner) of one link, for
all shards of the child. What it never does: vote, count, propose, hold uncommitted entries, or
open connections; where the bytes lie and how they travel is the host's business.
"""

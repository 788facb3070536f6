"""What is the same for all systems: the plan, the load, the meter, the check, the report.

What this package never does: know a system by name, except in the plan and its targets.
"""

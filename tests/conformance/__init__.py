"""Public conformance data of other projects, run against this one."""

"""The detector: closed windows in, alert transitions out. Pure: no I/O, no Faust, no wall clock."""

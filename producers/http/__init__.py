"""HTTP parts that every server of funnelwatch shares."""

"""``funnelwatch demo``: the whole pipeline at work, with an incident to find."""

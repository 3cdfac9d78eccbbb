"""A shop whose sign-up funnelwatch watches."""

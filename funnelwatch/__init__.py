"""Watch the conversion of a sign-up funnel."""

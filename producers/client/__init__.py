"""The client for apps: it emits the events and metrics of a funnel, and never delays the app."""

"""What an app uses: it emits the events and metrics of people in a funnel, and never holds the app up."""

"""The board: what one page shows of a funnel, live.

``Hub`` looks at Redis, the database and Kafka once for all who watch; ``view`` makes the messages of what it has seen;
``stream`` hands them to one browser. Nothing here writes anywhere.
"""

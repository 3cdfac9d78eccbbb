"""The board: what one page shows of a funnel, live.

``Hub`` reads Redis, the database and Kafka once for all open pages; ``view`` makes the messages from its readings;
``stream`` hands them to one browser. Nothing here writes anywhere.
"""

"""The web server: the board for people, the query API for programs. It reads only."""

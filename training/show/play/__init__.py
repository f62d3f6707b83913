"""`videogen-dream play`: dreams and real games in a browser. page/ holds the page itself."""

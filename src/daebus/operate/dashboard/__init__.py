"""`daebus dashboard`: what `daebus top` shows, as a small web page on loopback."""

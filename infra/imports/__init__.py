"""Access logs of web servers, through the collector into the tables: read, cut into bulks, sent once."""

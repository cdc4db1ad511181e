"""Opting out: a page and a script that let a visitor refuse to be counted, read the choice, and undo it.

The page lives on the collector's own host, shown by itself or in a frame, and works without JavaScript. It keeps the
choice in cookie `matomo_ignore`, once as a partitioned cookie (CHIPS), which a browser that blocks third-party cookies
keeps for the site around the frame. The script lives in the site's own page and keeps the choice in the first-party
cookie `mtm_consent_removed`, which trackers read too. Both answer at Matomo's addresses as well, so that a site's
privacy page goes on working unchanged.
"""

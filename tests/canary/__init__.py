"""The canary scan: marks are planted in every field of requests, and everything that is left is searched for them."""

"""Tests of the import of access logs."""

"""Thumbnails: the job loop, the pipelines on GPU and CPU, frame choice, storage."""

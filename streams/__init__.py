"""The stream worker: packets of raw events become anonymous rows, exactly once."""

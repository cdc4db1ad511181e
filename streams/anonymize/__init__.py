"""Personal data made safe to keep: one module per kind of it.

The order is fixed: an event is parsed, excluded where it must be, its address masked, and only then does
anything else see it. What these functions return may be stored; what they take may not.
"""

"""What is added to an event, from values that are already anonymous or serve no other purpose.

Every rule here is a pure function of one value; how it is run over columns is the frame's concern.
"""

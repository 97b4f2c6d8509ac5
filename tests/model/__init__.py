"""A slow and obvious second reading of the design, to test the real machine against.

Nothing here imports `trsm`. Schemas are plain dictionaries in the form of the conformance cases, in declaration
order; sets of states are frozensets of names. Each rule stands beside the words of `DESIGN.md` that it comes from.

`consensus` decides one mutation, `machine` runs whole steps with negotiation and ticks, `reasons` checks why a state
was lost, `laws` are the laws of section 4, `enumerate3` is every schema of three states, and `strategies` (the only
file that needs Hypothesis) makes random ones.
"""

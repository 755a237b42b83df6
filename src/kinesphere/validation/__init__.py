"""How far a run can be trusted: scores against a known truth, and what the best possible observer
would reach.
"""

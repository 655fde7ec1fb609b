"""The E-step over neighbours, the M-step, and measures of clouds."""

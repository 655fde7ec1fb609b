"""What everything is made of: the E-step over neighbours, the M-step, and measures of clouds."""

"""What carries jobs to the processor: batching, and the choice of the device."""

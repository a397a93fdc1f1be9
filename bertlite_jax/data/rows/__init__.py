"""Windows become batches of packed rows, a pure function of the step."""

"""What a step costs: FLOPs and bytes, by formula, by compiled program, by profile."""

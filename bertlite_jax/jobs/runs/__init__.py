"""What every job uses: work directories and signals."""

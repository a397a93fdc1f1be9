"""What teachers say of the rows of a run, stored once: a folder of ArrayRecord files with a record for each row."""

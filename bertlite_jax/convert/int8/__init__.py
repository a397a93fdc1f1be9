"""8-bit ONNX behind a gate, measured on text."""

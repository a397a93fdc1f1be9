"""ONNX graphs, written straight from the parameters."""

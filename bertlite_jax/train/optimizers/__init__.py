"""The parts that optimisers are composed of; `train/optim.py` composes them."""

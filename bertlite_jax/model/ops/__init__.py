"""What layers are made of: products, attention, dropout, element-wise parts, in the arithmetic of a machine."""
